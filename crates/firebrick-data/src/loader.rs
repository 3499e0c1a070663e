//! Batches from several threads, in one order.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::shuffle::shuffled;
use crate::workers::Workers;

/// What to do about a sample that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBadSample {
    /// End the epoch with the error of the first bad sample in order. The default.
    #[default]
    Fail,
    /// Leave it out of its batch and say so in [`Batch::skipped`]; fail only if more than half of the epoch's
    /// samples are bad, or for an error that is not about a single sample.
    Skip,
}

/// How a [`Loader`] makes batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Samples in a batch, at least 1; the last batch of an epoch may have fewer. Default: 32.
    pub batch_size: usize,
    /// Threads that ask the data set for samples; 0 does so in the caller's thread. Default: the number of
    /// cores, at most 8.
    pub workers: usize,
    /// Batches that may be ready or in the making before the caller asks for them. Default: 2; 0 is taken as
    /// 1, and means nothing without workers.
    pub queue: usize,
    /// The seed of the [order](crate::shuffled), another for each epoch; `None` keeps the data set's order.
    /// Default: `None`.
    pub shuffle: Option<u64>,
    /// What to do about a sample that cannot be used. Default: fail.
    pub on_bad: OnBadSample,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        const MOST: usize = 8;
        Self {
            batch_size: 32,
            workers: thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST)),
            queue: 2,
            shuffle: None,
            on_bad: OnBadSample::Fail,
        }
    }
}

/// A sample that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSample {
    /// Its index in the data set.
    pub index: usize,
    /// Why: the text of its error, which names the file.
    pub error: String,
}

/// Samples that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<T> {
    /// Which batch of the epoch this is, from 0, with those counted that were left out because all their
    /// samples were bad. After a stop, [`Loader::epoch_from`] goes on with `number + 1`.
    pub number: usize,
    /// The data set's indices of the items.
    pub indices: Vec<usize>,
    /// The items. Never empty.
    pub items: Vec<T>,
    /// Samples left out of this batch, and of batches left out altogether just before it.
    pub skipped: Vec<BadSample>,
}

/// Makes batches of a [`Dataset`].
///
/// Batches come in order, and are the same for any number of workers and any queue. The unit of work is one
/// sample, so all workers share in the very first batch.
#[derive(Debug)]
pub struct Loader<D: Dataset> {
    dataset: Arc<D>,
    options: LoaderOptions,
}

impl<D: Dataset> Loader<D> {
    /// A loader of `dataset`.
    ///
    /// # Panics
    ///
    /// If `options.batch_size` is 0.
    pub fn new(dataset: Arc<D>, options: LoaderOptions) -> Self {
        assert!(options.batch_size > 0, "batch_size must be at least 1, not 0");
        Self { dataset, options }
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<D> {
        &self.dataset
    }

    /// How batches are made.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// Samples in an epoch.
    pub fn len(&self) -> usize {
        self.dataset.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    /// Batches in an epoch, if none has only bad samples. The last may be short.
    pub fn num_batches(&self) -> usize {
        self.len().div_ceil(self.options.batch_size)
    }

    /// Starts an epoch. Its workers begin at once, live as long as it, and are gone when it has been dropped.
    pub fn epoch(&self, epoch: u64) -> Epoch<D> {
        self.epoch_from(epoch, 0)
    }

    /// Starts an epoch at its batch number `batch`, as if those before it had been delivered: to resume.
    pub fn epoch_from(&self, epoch: u64, batch: usize) -> Epoch<D> {
        let len = self.len();
        let order = match self.options.shuffle {
            Some(seed) => shuffled(len, seed, epoch),
            None => (0..len).collect(),
        };
        let position = batch.saturating_mul(self.options.batch_size).min(len);
        let plan = Arc::new(Plan { dataset: Arc::clone(&self.dataset), order, epoch });
        let make = {
            let plan = Arc::clone(&plan);
            move |place| plan.get(place)
        };
        let workers = Workers::start(make, position..len, &self.options);
        Epoch {
            plan,
            workers,
            batch_size: self.options.batch_size,
            on_bad: self.options.on_bad,
            position,
            number: batch,
            bad: Vec::new(),
            reported: 0,
        }
    }
}

/// The batches of one epoch, in order.
///
/// After an error it ends. Dropping it early is fine: its workers finish the samples in hand and stop.
#[derive(Debug)]
pub struct Epoch<D: Dataset> {
    plan: Arc<Plan<D>>,
    /// `None`: samples are made in the caller's thread.
    workers: Option<Workers<Result<D::Item, DataError>>>,
    batch_size: usize,
    on_bad: OnBadSample,
    /// The next sample's place in the order.
    position: usize,
    number: usize,
    bad: Vec<BadSample>,
    /// How many of `bad` have been handed out in batches.
    reported: usize,
}

impl<D: Dataset> Epoch<D> {
    /// All samples left out so far, including those of batches left out at the end, which no [`Batch`] can
    /// tell of.
    pub fn bad_samples(&self) -> &[BadSample] {
        &self.bad
    }

    /// Results of the samples at `places`, in order; may stop behind the first error.
    fn results(&mut self, places: Range<usize>) -> Vec<Result<D::Item, DataError>> {
        match &self.workers {
            Some(workers) => workers.take(places.len()),
            None => places.map(|place| self.plan.get(place)).collect(),
        }
    }

    fn next_batch(&mut self) -> Result<Option<Batch<D::Item>>, DataError> {
        while self.position < self.plan.order.len() {
            let places = self.position..self.plan.order.len().min(self.position + self.batch_size);
            let mut batch =
                Batch { number: self.number, indices: Vec::new(), items: Vec::new(), skipped: Vec::new() };
            for (place, result) in places.clone().zip(self.results(places.clone())) {
                let index = self.plan.order[place];
                match result {
                    Ok(item) => {
                        batch.indices.push(index);
                        batch.items.push(item);
                    }
                    Err(error) => self.skip(index, error)?,
                }
            }
            self.position = places.end;
            self.number += 1;
            if !batch.items.is_empty() {
                batch.skipped = self.bad[self.reported..].to_vec();
                self.reported = self.bad.len();
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// Notes a bad sample, or gives its error back if it cannot be skipped.
    fn skip(&mut self, index: usize, error: DataError) -> Result<(), DataError> {
        if self.on_bad == OnBadSample::Fail || !error.is_bad_sample() {
            return Err(error);
        }
        tracing::debug!(index, %error, "bad sample skipped");
        self.bad.push(BadSample { index, error: error.to_string() });
        let total = self.plan.order.len();
        // Judged in order, so that the verdict does not depend on which worker was faster.
        if self.bad.len() * 2 > total {
            let first = self.bad[0].error.clone();
            return Err(DataError::TooManyBadSamples { bad: self.bad.len(), total, first });
        }
        Ok(())
    }
}

impl<D: Dataset> Iterator for Epoch<D> {
    type Item = Result<Batch<D::Item>, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.next_batch().transpose();
        if !matches!(result, Some(Ok(_))) {
            self.position = self.plan.order.len();
            self.workers = None;
        }
        result
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.plan.order.len() - self.position).div_ceil(self.batch_size)))
    }
}

impl<D: Dataset> std::iter::FusedIterator for Epoch<D> {}

/// What an epoch is made of; shared with its workers.
#[derive(Debug)]
struct Plan<D> {
    dataset: Arc<D>,
    order: Vec<usize>,
    epoch: u64,
}

impl<D: Dataset> Plan<D> {
    /// The sample at a place in the order. A panic of the data set's code becomes an error, in any thread.
    fn get(&self, place: usize) -> Result<D::Item, DataError> {
        let index = self.order[place];
        catch_unwind(AssertUnwindSafe(|| self.dataset.get(index, self.epoch))).unwrap_or_else(|payload| {
            let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
                (Some(text), _) => (*text).to_owned(),
                (_, Some(text)) => text.clone(),
                _ => "no message".to_owned(),
            };
            Err(DataError::Panicked { index, message })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Numbers `0..len`; the listed ones are bad. Some take longer than others, so that workers overtake each
    /// other.
    #[derive(Debug, Default)]
    struct Numbers {
        len: usize,
        bad: Vec<usize>,
        panics_at: Option<usize>,
        fatal_at: Option<usize>,
        uneven: bool,
        made: AtomicUsize,
    }

    impl Dataset for Numbers {
        type Item = (usize, u64);

        fn len(&self) -> usize {
            self.len
        }

        fn get(&self, index: usize, epoch: u64) -> Result<Self::Item, DataError> {
            self.made.fetch_add(1, Ordering::SeqCst);
            if self.uneven && index.is_multiple_of(3) {
                thread::sleep(Duration::from_micros(200 * (index as u64 % 7)));
            }
            assert!(self.panics_at != Some(index), "no {index} today");
            if self.fatal_at == Some(index) {
                return Err(DataError::NoCacheFolder);
            }
            if self.bad.contains(&index) {
                return Err(DataError::bad_sample(format!("number {index}"), "unlucky"));
            }
            Ok((index * 10, epoch))
        }
    }

    fn options(batch_size: usize, workers: usize) -> LoaderOptions {
        LoaderOptions { batch_size, workers, queue: 2, shuffle: None, on_bad: OnBadSample::Fail }
    }

    fn skipping(batch_size: usize, workers: usize) -> LoaderOptions {
        LoaderOptions { on_bad: OnBadSample::Skip, ..options(batch_size, workers) }
    }

    fn loader(dataset: Numbers, options: LoaderOptions) -> Loader<Numbers> {
        Loader::new(Arc::new(dataset), options)
    }

    /// Everything an epoch delivers, errors as text.
    fn delivered(loader: &Loader<Numbers>, epoch: u64) -> Vec<Result<Batch<(usize, u64)>, String>> {
        loader.epoch(epoch).map(|batch| batch.map_err(|error| error.to_string())).collect()
    }

    mod properties {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(200))]

            #[test]
            fn delivers_the_same_batches_for_any_workers_and_queue(
                len in 0usize..60,
                batch_size in 1usize..12,
                workers in 1usize..=5,
                queue in 0usize..4,
                shuffle in prop::option::of(any::<u64>()),
                bad in prop::collection::vec(0usize..60, 0..8),
                skip: bool,
                uneven: bool,
                epoch in 0u64..4,
            ) {
                let on_bad = if skip { OnBadSample::Skip } else { OnBadSample::Fail };
                let numbers = || Numbers { len, bad: bad.clone(), uneven, ..Default::default() };
                let options = LoaderOptions { batch_size, workers: 0, queue, shuffle, on_bad };
                let expected = delivered(&loader(numbers(), options.clone()), epoch);
                let actual = delivered(&loader(numbers(), LoaderOptions { workers, ..options }), epoch);
                prop_assert_eq!(actual, expected);
            }

            #[test]
            fn resumes_with_the_batches_that_were_left(
                len in 1usize..60,
                batch_size in 1usize..12,
                workers in 0usize..4,
                from in 0usize..70,
            ) {
                let loader = loader(
                    Numbers { len, ..Default::default() },
                    LoaderOptions { shuffle: Some(5), ..options(batch_size, workers) },
                );
                let all: Vec<_> = loader.epoch(2).map(Result::unwrap).collect();
                let rest: Vec<_> = loader.epoch_from(2, from).map(Result::unwrap).collect();
                prop_assert_eq!(&rest[..], &all[from.min(all.len())..]);
            }
        }
    }

    #[test]
    fn delivers_each_sample_once_in_the_shuffled_order() {
        for workers in [0, 3] {
            let loader = loader(
                Numbers { len: 23, ..Default::default() },
                LoaderOptions { shuffle: Some(1), ..options(5, workers) },
            );
            assert_eq!((loader.len(), loader.num_batches()), (23, 5));
            let batches: Vec<_> = loader.epoch(4).map(Result::unwrap).collect();
            assert_eq!(batches.iter().map(|b| b.items.len()).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
            assert_eq!(batches.iter().map(|b| b.number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
            let indices: Vec<_> = batches.iter().flat_map(|b| b.indices.clone()).collect();
            assert_eq!(indices, shuffled(23, 1, 4));
            let items: Vec<_> = batches.iter().flat_map(|b| b.items.clone()).collect();
            assert_eq!(items, indices.iter().map(|i| (i * 10, 4)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn delivers_nothing_of_an_empty_data_set() {
        for workers in [0, 2] {
            let loader = loader(Numbers::default(), options(4, workers));
            assert!(loader.is_empty());
            assert_eq!(loader.num_batches(), 0);
            assert!(loader.epoch(0).next().is_none());
        }
    }

    #[test]
    fn fails_with_the_first_bad_sample_in_order_and_ends() {
        for workers in [0, 1, 4] {
            // Sample 6 is slow, sample 7 fast: it fails first in time, not in order.
            let numbers = Numbers { len: 20, bad: vec![6, 7], uneven: true, ..Default::default() };
            let loader = loader(numbers, options(4, workers));
            let mut epoch = loader.epoch(0);
            assert_eq!(epoch.next().unwrap().unwrap().indices, [0, 1, 2, 3]);
            assert_eq!(epoch.next().unwrap().unwrap_err().to_string(), "number 6: unlucky");
            assert!(epoch.next().is_none());
            assert!(epoch.next().is_none());
        }
    }

    #[test]
    fn skips_bad_samples_and_names_them() {
        for workers in [0, 3] {
            let loader =
                loader(Numbers { len: 8, bad: vec![1, 6], ..Default::default() }, skipping(4, workers));
            let batches: Vec<_> = loader.epoch(0).map(Result::unwrap).collect();
            assert_eq!(batches[0].indices, [0, 2, 3]);
            assert_eq!(batches[0].skipped, [BadSample { index: 1, error: "number 1: unlucky".into() }]);
            assert_eq!(batches[1].indices, [4, 5, 7]);
            assert_eq!(batches[1].skipped.len(), 1);
        }
    }

    #[test]
    fn leaves_out_a_batch_without_items_and_tells_of_it_in_the_next() {
        for workers in [0, 3] {
            let loader = loader(
                Numbers { len: 10, bad: vec![2, 3, 8, 9], ..Default::default() },
                skipping(2, workers),
            );
            let mut epoch = loader.epoch(0);
            let batches: Vec<_> = epoch.by_ref().map(Result::unwrap).collect();
            assert_eq!(batches.iter().map(|b| b.number).collect::<Vec<_>>(), [0, 2, 3]);
            assert_eq!(batches[1].skipped.iter().map(|s| s.index).collect::<Vec<_>>(), [2, 3]);
            assert_eq!(epoch.bad_samples().iter().map(|s| s.index).collect::<Vec<_>>(), [2, 3, 8, 9]);
        }
    }

    #[test]
    fn refuses_to_skip_more_than_half() {
        for workers in [0, 3] {
            let half =
                loader(Numbers { len: 6, bad: vec![0, 1, 2], ..Default::default() }, skipping(2, workers));
            assert!(half.epoch(0).all(|batch| batch.is_ok()));

            let more =
                loader(Numbers { len: 6, bad: vec![0, 1, 2, 5], ..Default::default() }, skipping(2, workers));
            let last = more.epoch(0).last().unwrap().unwrap_err();
            let text = last.to_string();
            assert!(text.starts_with("4 of the 6 samples are unusable: more than half"), "{text}");
            assert!(text.ends_with("The first was: number 0: unlucky"), "{text}");
            assert!(!last.is_bad_sample());
        }
    }

    #[test]
    fn fails_when_all_samples_are_bad() {
        let loader = loader(Numbers { len: 1, bad: vec![0], ..Default::default() }, skipping(4, 2));
        assert!(matches!(
            loader.epoch(0).next(),
            Some(Err(DataError::TooManyBadSamples { bad: 1, total: 1, .. }))
        ));
    }

    #[test]
    fn never_skips_an_error_that_is_not_about_one_sample() {
        let loader = loader(Numbers { len: 8, fatal_at: Some(5), ..Default::default() }, skipping(4, 2));
        let mut epoch = loader.epoch(0);
        assert!(epoch.next().unwrap().is_ok());
        assert!(matches!(epoch.next(), Some(Err(DataError::NoCacheFolder))));
        assert!(epoch.next().is_none());
    }

    #[test]
    fn makes_an_error_of_a_panic_and_does_not_hang() {
        for workers in [0, 1, 3] {
            let loader =
                loader(Numbers { len: 12, panics_at: Some(5), ..Default::default() }, skipping(4, workers));
            let mut epoch = loader.epoch(0);
            assert!(epoch.next().unwrap().is_ok());
            let error = epoch.next().unwrap().unwrap_err().to_string();
            assert!(error.starts_with("sample 5: the data set's code panicked: no 5 today"), "{error}");
            assert!(epoch.next().is_none());
        }
    }

    #[test]
    fn stops_its_workers_when_dropped_early() {
        let loader = loader(Numbers { len: 10_000, uneven: true, ..Default::default() }, options(4, 3));
        let mut epoch = loader.epoch(0);
        epoch.next().unwrap().unwrap();
        drop(epoch);
        // The workers are joined: nobody else holds the data set, and no more samples are made.
        assert_eq!(Arc::strong_count(loader.dataset()), 1);
        let made = loader.dataset().made.load(Ordering::SeqCst);
        assert!(made <= 3 * 4, "{made} samples made for one batch and a queue of two");
    }

    #[test]
    fn works_no_further_ahead_than_the_queue() {
        let loader = loader(Numbers { len: 1_000, ..Default::default() }, options(5, 4));
        let mut epoch = loader.epoch(0);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(loader.dataset().made.load(Ordering::SeqCst), 10);
        epoch.next().unwrap().unwrap();
        thread::sleep(Duration::from_millis(50));
        assert_eq!(loader.dataset().made.load(Ordering::SeqCst), 15);
    }

    #[test]
    fn shares_one_batch_among_the_workers() {
        /// Answers only when as many threads ask at the same time.
        struct Meeting(std::sync::Barrier);
        impl Dataset for Meeting {
            type Item = usize;
            fn len(&self) -> usize {
                4
            }
            fn get(&self, index: usize, _epoch: u64) -> Result<usize, DataError> {
                self.0.wait();
                Ok(index)
            }
        }
        let loader = Loader::new(Arc::new(Meeting(std::sync::Barrier::new(4))), options(4, 4));
        assert_eq!(loader.epoch(0).next().unwrap().unwrap().items, [0, 1, 2, 3]);
    }

    #[test]
    #[should_panic(expected = "batch_size must be at least 1, not 0")]
    fn refuses_batches_of_nothing() {
        loader(Numbers::default(), options(0, 0));
    }
}
