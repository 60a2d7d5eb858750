/// How much of the quota a request takes.
///
/// Closures are costs: `|req: &Upload| req.chunks`. A cost of 0 is admitted without being counted; a
/// cost above the quota (or above the burst of [`Gcra`](super::Algorithm::Gcra)) can never be
/// admitted and is refused without a time to come back.
pub trait Cost<Req> {
    /// The cost of this request.
    fn cost(&self, req: &Req) -> u32;
}

impl<Req, F: Fn(&Req) -> u32> Cost<Req> for F {
    #[inline]
    fn cost(&self, req: &Req) -> u32 {
        self(req)
    }
}

/// Every request costs 1.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UnitCost;

impl<Req> Cost<Req> for UnitCost {
    #[inline]
    fn cost(&self, _: &Req) -> u32 {
        1
    }
}
