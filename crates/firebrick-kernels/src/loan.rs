//! Memory that runs of a plan take turns with.

use std::sync::{Mutex, PoisonError};

/// Memory on loan from a plan; it goes back when dropped.
pub(crate) struct Loan<'a, T> {
    item: Option<T>,
    owner: &'a Mutex<Vec<T>>,
}

impl<'a, T: Default> Loan<'a, T> {
    pub(crate) fn new(owner: &'a Mutex<Vec<T>>) -> Self {
        // A panic elsewhere cannot have left the list itself half-written.
        let item = owner.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { item: Some(item.unwrap_or_default()), owner }
    }

    pub(crate) fn get(&mut self) -> &mut T {
        self.item.as_mut().expect("the item is there until the loan is dropped")
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner).extend(self.item.take());
    }
}
