//! What one pass asks for only once, for all certificates.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tokio::sync::OnceCell;

/// Answers by key. The first caller asks for an answer, and the others wait for it.
#[derive(Debug)]
pub(crate) struct Memo<T>(RefCell<HashMap<String, Rc<OnceCell<T>>>>);

impl<T> Memo<T> {
    /// Returns the place of an answer, empty or not.
    pub(crate) fn cell(&self, key: &str) -> Rc<OnceCell<T>> {
        self.0
            .borrow_mut()
            .entry(key.to_owned())
            .or_default()
            .clone()
    }

    /// Returns the places of all answers, by key.
    pub(crate) fn answers(&self) -> Vec<(String, Rc<OnceCell<T>>)> {
        let cells = self.0.borrow();
        cells
            .iter()
            .map(|(key, cell)| (key.clone(), cell.clone()))
            .collect()
    }

    /// Replaces an answer.
    pub(crate) fn replace(&self, key: &str, answer: T) {
        let cell = Rc::new(OnceCell::new_with(Some(answer)));
        self.0.borrow_mut().insert(key.to_owned(), cell);
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}
