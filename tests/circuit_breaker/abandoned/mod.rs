//! What calls teach whose callers left.
//!
//! The rule was found by simulation. `simulation` drives the breaker itself through such histories:
//! calls that arrive at random, in virtual time; `cases` has those that the rule was made from and
//! others that it had not seen. `stacks` has the cases in which it must be known whose failure it is.

mod cases;
mod half_open;
mod simulation;
mod stacks;
