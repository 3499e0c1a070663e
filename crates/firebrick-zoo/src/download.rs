//! Downloads of published weights, which go on where they were broken off.
//!
//! What has arrived lies beside the file's place, as `FILE.part`, until it is whole and its hash is right. So a download that a lost
//! connection or Ctrl-C has ended goes on from there, in this process or in the next one, and a file under its own name is whole. Whoever
//! works on a part has locked it: another process that wants the same file waits for it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use same_file::Handle;

use crate::package::sync_folder;
use crate::weights::{Progress, check_hash, copy, hash_of, locate};
use crate::{WeightsSpec, ZooError};

/// For a connection, and for the next bytes of it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Before a broken connection is made anew.
const PAUSE: Duration = Duration::from_millis(200);
/// Connections that are made for a file, each of which must bring some of it.
const MOST_CONNECTIONS: usize = 20;

/// Downloads a file to `path`, or what is missing of it.
pub(crate) fn download(
    weights: &WeightsSpec,
    path: &Path,
    progress: Progress<'_>,
) -> Result<PathBuf, ZooError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(ZooError::io(folder, "make the folder"))?;
    match Part::open(path)? {
        Some(mut part) => {
            let outcome = part.complete(weights, path, progress);
            part.close(outcome, path)
        }
        // Another process has downloaded it meanwhile.
        None => locate(weights, folder, progress),
    }
}

/// What has arrived of a file, locked.
struct Part {
    file: File,
    path: PathBuf,
}

impl Part {
    /// The part of a file, perhaps an empty one; `None` if the file itself is there.
    fn open(whole: &Path) -> Result<Option<Self>, ZooError> {
        let mut name = whole.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let path = whole.with_file_name(name);
        let failed = |error| ZooError::io(&path, "write")(error);
        loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(failed)?;
            lock(&file, &path).map_err(failed)?;
            if whole.exists() {
                return Ok(None);
            }
            // Whoever held the lock may have removed the part that this process waited for.
            let own = file.try_clone().and_then(Handle::from_file).map_err(failed)?;
            if Handle::from_path(&path).is_ok_and(|there| there == own) {
                return Ok(Some(Self { file, path }));
            }
        }
    }

    fn len(&self) -> Result<u64, ZooError> {
        Ok(self.file.metadata().map_err(ZooError::io(&self.path, "read"))?.len())
    }

    /// Fetches what is missing, until the hash is right.
    fn complete(
        &mut self,
        weights: &WeightsSpec,
        whole: &Path,
        progress: Progress<'_>,
    ) -> Result<(), ZooError> {
        let was_left = self.len()? > 0;
        self.fetch_all(weights, whole, progress)?;
        match self.check(weights, whole) {
            // What an earlier process has left may be of another file at this address.
            Err(ZooError::WrongHash { .. }) if was_left => {
                self.file.set_len(0).map_err(ZooError::io(&self.path, "write"))?;
                self.fetch_all(weights, whole, progress)?;
                self.check(weights, whole)
            }
            outcome => outcome,
        }
    }

    fn check(&mut self, weights: &WeightsSpec, whole: &Path) -> Result<(), ZooError> {
        self.file.rewind().map_err(ZooError::io(&self.path, "read"))?;
        let hash = hash_of(&mut self.file, weights.bytes, &mut |_, _| ());
        check_hash(whole, &hash.map_err(ZooError::io(&self.path, "read"))?, weights)
    }

    /// Makes connections until one ends with the file.
    fn fetch_all(
        &mut self,
        weights: &WeightsSpec,
        whole: &Path,
        progress: Progress<'_>,
    ) -> Result<(), ZooError> {
        for connection in 1.. {
            let before = self.len()?;
            let Err(reason) = self.fetch(weights, before, progress) else { break };
            let now = self.len()?;
            let of = weights.bytes;
            if now <= before || connection == MOST_CONNECTIONS {
                let kept = format!(" ({now} of {of} bytes are kept, and the next try goes on behind them)");
                return Err(ZooError::Download {
                    url: weights.url.to_owned(),
                    reason: if now > 0 { reason + &kept } else { reason },
                    path: whole.to_owned(),
                    flag: "--weights",
                });
            }
            tracing::warn!("the download broke off behind {now} of {of} bytes and goes on: {reason}");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Fetches what is behind the first `have` bytes; says what went wrong.
    fn fetch(&mut self, weights: &WeightsSpec, have: u64, progress: Progress<'_>) -> Result<(), String> {
        let have = if have <= weights.bytes { have } else { 0 };
        match have {
            0 => tracing::info!(url = weights.url, "downloading weights"),
            _ => tracing::info!(
                url = weights.url,
                "downloading what is behind the first {have} of {} bytes",
                weights.bytes
            ),
        }
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .new_agent();
        let mut request = agent.get(weights.url);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let mut response = match request.call() {
            // Nothing is behind what is here.
            Err(ureq::Error::StatusCode(416)) if have > 0 => return Ok(()),
            response => response.map_err(|error| error.to_string())?,
        };
        let range = response.headers().get("Content-Range").and_then(|range| range.to_str().ok());
        let goes_on = range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
        // A server that knows no ranges sends everything again.
        let start = if response.status() == 206 && goes_on { have } else { 0 };
        let Self { file, .. } = self;
        let placed = file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start)));
        placed.map_err(|error| error.to_string())?;
        if response.status() == 206 && !goes_on {
            return Err("the server sent another part than it was asked for".to_owned());
        }
        let from = &mut response.body_mut().as_reader();
        copy(from, &mut |bytes| file.write_all(bytes), start, weights.bytes, progress)
            .map_err(|error| error.to_string())
    }

    /// Gives a complete part the file's name. One that isn't stays for the next try, but not if it is empty or wrong.
    fn close(self, outcome: Result<(), ZooError>, whole: &Path) -> Result<PathBuf, ZooError> {
        match outcome {
            Ok(()) => {
                self.file.sync_all().map_err(ZooError::io(&self.path, "write"))?;
                std::fs::rename(&self.path, whole).map_err(ZooError::io(whole, "write"))?;
                sync_folder(whole);
                Ok(whole.to_owned())
            }
            Err(error) => {
                if matches!(error, ZooError::WrongHash { .. }) || self.len().is_ok_and(|len| len == 0) {
                    let _ = std::fs::remove_file(&self.path);
                }
                Err(error)
            }
        }
    }
}

/// Locks a part, and waits for whoever has locked it. Where the file system knows no locks, nobody waits.
fn lock(file: &File, path: &Path) -> std::io::Result<()> {
    let outcome = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::warn!("{}: waiting for another process that downloads it", path.display());
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    outcome.or_else(|error| if error.kind() == std::io::ErrorKind::Unsupported { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::tests::spec;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// Answers one connection after another, each with the next of `answers`, a head and a body; tells of each where the range began
    /// that was asked for.
    fn serve(answers: &'static [(&str, &str)]) -> (&'static str, Receiver<Option<u64>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (asked, of) = channel();
        std::thread::spawn(move || {
            for (head, body) in answers {
                let (mut stream, _) = listener.accept().expect("a client");
                let lines = BufReader::new(stream.try_clone().expect("a stream")).lines();
                let mut begin = None;
                for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
                    if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
                        begin = range.trim_end_matches('-').parse().ok();
                    }
                }
                let _ = asked.send(begin);
                let answer = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        (format!("http://{address}/test.pth").leak(), of)
    }

    const ALL: &str = "200 OK\r\nContent-Length: 5";
    const BEHIND_TWO: &str = "206 Partial Content\r\nContent-Length: 3\r\nContent-Range: bytes 2-4/5";
    const BEHIND_ALL: &str = "416 Range Not Satisfiable\r\nContent-Length: 0\r\nContent-Range: bytes */5";

    /// Downloads to a folder where `left` is left, if it is anything: the file or the error, what is then in the folder, and where the
    /// ranges began that were asked for.
    fn fetch(
        answers: &'static [(&str, &str)],
        left: Option<&str>,
    ) -> (Result<String, ZooError>, Vec<String>, Vec<Option<u64>>) {
        let folder = tempfile::tempdir().expect("temporary folder");
        if let Some(left) = left {
            std::fs::write(folder.path().join("test.pth.part"), left).expect("write");
        }
        let (url, asked) = serve(answers);
        let mut last = None;
        let path = locate(&spec(url), folder.path(), &mut |done, of| last = Some((done, of)));
        let read = path.map(|path| std::fs::read_to_string(path).expect("readable"));
        if read.is_ok() && answers.last().is_some_and(|(_, body)| !body.is_empty()) {
            assert_eq!(last, Some((5, 5)));
        }
        let names = std::fs::read_dir(folder.path()).expect("folder").map(|entry| entry.expect("entry"));
        let names = names.map(|entry| entry.file_name().into_string().expect("text")).collect();
        (read, names, asked.try_iter().collect())
    }

    #[test]
    fn a_download_is_checked_and_kept() {
        let (file, names, asked) = fetch(&[(ALL, "right")], None);
        assert_eq!((file.expect("served").as_str(), asked), ("right", vec![None]));
        assert_eq!(names, ["test.pth"]);
    }

    #[test]
    fn wrong_bytes_are_not_kept() {
        let (file, names, _) = fetch(&[(ALL, "wrong")], None);
        assert!(matches!(file, Err(ZooError::WrongHash { .. })), "{file:?}");
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn a_broken_connection_is_made_anew_and_goes_on() {
        let (file, names, asked) = fetch(&[(ALL, "ri"), (BEHIND_TWO, "ght")], None);
        assert_eq!((file.expect("served").as_str(), asked), ("right", vec![None, Some(2)]));
        assert_eq!(names, ["test.pth"]);
    }

    #[test]
    fn what_an_earlier_process_left_is_not_fetched_again() {
        let (file, _, asked) = fetch(&[(BEHIND_TWO, "ght")], Some("ri"));
        assert_eq!((file.expect("served").as_str(), asked), ("right", vec![Some(2)]));
        // All of it, but for its name.
        let (file, names, asked) = fetch(&[(BEHIND_ALL, "")], Some("right"));
        assert_eq!((file.expect("served").as_str(), asked), ("right", vec![Some(5)]));
        assert_eq!(names, ["test.pth"]);
    }

    #[test]
    fn a_server_without_ranges_sends_everything() {
        let (file, _, asked) = fetch(&[(ALL, "right")], Some("ri"));
        assert_eq!((file.expect("served").as_str(), asked), ("right", vec![Some(2)]));
    }

    #[test]
    fn what_was_left_of_another_file_is_fetched_anew() {
        for left in ["wr", "something longer"] {
            let answers: &[_] = &[(BEHIND_TWO, "ght"), (ALL, "right")];
            let answers = if left.len() > 5 { &answers[1..] } else { answers };
            let (file, names, _) = fetch(answers, Some(left));
            assert_eq!(file.expect("served"), "right", "{left}");
            assert_eq!(names, ["test.pth"]);
        }
    }

    #[test]
    fn a_server_that_sends_another_part_is_not_believed() {
        let (file, names, _) = fetch(&[(BEHIND_TWO, "ght")], Some("r"));
        let message = file.expect_err("another part").to_string();
        assert!(message.contains("another part than it was asked for"), "{message}");
        assert!(names.is_empty(), "{names:?}");
    }

    #[test]
    fn a_connection_that_stays_broken_says_what_is_kept() {
        let (file, names, asked) =
            fetch(&[(ALL, "ri"), ("500 Internal Server Error\r\nContent-Length: 0", "")], None);
        let message = file.expect_err("broken").to_string();
        assert!(message.contains("500") && message.contains("2 of 5 bytes are kept"), "{message}");
        assert_eq!((names, asked), (vec!["test.pth.part".to_owned()], vec![None, Some(2)]));
    }

    #[test]
    fn offline_says_where_to_put_the_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let message = locate(&spec("http://127.0.0.1:9/test.pth"), folder.path(), &mut |_, _| ())
            .expect_err("nothing listens there")
            .to_string();
        assert!(message.contains("test.pth") && message.contains("--weights"), "{message}");
        assert!(!message.contains("kept"), "{message}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }

    #[test]
    fn two_that_want_the_same_file_download_it_once() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (url, asked) = serve(&[(ALL, "right"), (ALL, "right")]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| locate(&spec(url), folder.path(), &mut |_, _| ()).expect("served"));
            }
        });
        assert_eq!(asked.try_iter().count(), 1);
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1);
    }
}
