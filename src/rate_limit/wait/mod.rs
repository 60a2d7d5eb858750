//! Waiting in order for a place in the window.

mod line;

pub(super) use line::Lines;
