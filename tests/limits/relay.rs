//! A caller's retry budget and throttle.

#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) budget: f64,
    /// Ten tenths of a second: requests (those held back included) and accepts.
    tenths: [(i64, f64, f64); 10],
}

impl Relay {
    pub(crate) fn new() -> Self {
        Self {
            budget: 10.0,
            tenths: [(-100, 0.0, 0.0); 10],
        }
    }

    pub(crate) fn count(&mut self, now: f64, requests: f64, accepts: f64) {
        let tenth = (now * 10.0) as i64;
        let cell = &mut self.tenths[(tenth % 10) as usize];
        if cell.0 != tenth {
            *cell = (tenth, 0.0, 0.0);
        }
        cell.1 += requests;
        cell.2 += accepts;
    }

    pub(crate) fn probability(&self, now: f64) -> f64 {
        let tenth = (now * 10.0) as i64;
        let recent = self.tenths.iter().filter(|c| c.0 > tenth - 10);
        let (r, a) = recent.fold((0.0, 0.0), |(r, a), c| (r + c.1, a + c.2));
        ((r - 2.0 * a - 2.0) / (r + 1.0)).clamp(0.0, 0.8)
    }
}
