//! Files that are whole or not there.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::TrainError;

/// Writes `bytes` to a temporary file beside `path`, makes them durable, and only then gives them the name.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are private; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(TrainError::io(path, "write"))?;
    file.write_all(bytes).map_err(TrainError::io(path, "write"))?;
    file.as_file().sync_all().map_err(TrainError::io(path, "write"))?;
    file.persist(path).map_err(|error| TrainError::io(path, "write")(error.error))?;
    if let Ok(folder) = File::open(folder) {
        // Not every system can; the name is in place either way.
        let _ = folder.sync_all();
    }
    Ok(())
}
