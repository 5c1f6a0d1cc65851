//! Whether our clock agrees with the provider's. Pure.
//! It trusts no single second: an answer takes a moment to come.

use super::step::{Checked, problem};
use crate::time::Timestamp;

/// Difference from which a person should know of it, in seconds.
const WORTH_A_WARNING: u64 = 60;
/// Difference from which tokens and assertions are refused, in seconds: Microsoft allows five minutes.
const TOO_MUCH: u64 = 300;

/// Compares our time with the `Date` of an answer (RFC 9110 §6.6.1).
pub(super) fn step(ours: Timestamp, theirs: Option<Timestamp>) -> Checked {
    let Some(theirs) = theirs else {
        return Checked::ok("clock", "the provider does not tell its time");
    };
    let seconds = ours.0.abs_diff(theirs.0);
    let direction = if ours > theirs { "fast" } else { "slow" };
    let remedy = "Let a time service set the clock: `timedatectl set-ntp true`, or install chrony; then test again";
    match seconds {
        0..=1 => Checked::ok("clock", "agrees with the provider's"),
        2..=WORTH_A_WARNING => Checked::ok("clock", format!("within {seconds} s of the provider's")),
        61..=TOO_MUCH => Checked::ok("clock", format!("{seconds} s {direction}, by the provider's"))
            .with([format!("warning: beyond {TOO_MUCH} s sign-ins fail. {remedy}")]),
        _ => Checked::failed(
            "clock",
            problem(
                "clock-skew",
                format!(
                    "our clock is {seconds} s {direction}, by the provider's; tokens are refused beyond {TOO_MUCH} s"
                ),
                remedy,
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_clock_is_told_and_one_far_off_fails() {
        let theirs = Timestamp(1_800_000_000);
        for (ours, is_ok, notes, words) in [
            (0, true, 0, "agrees"),
            (-60, true, 0, "within 60 s"),
            (61, true, 1, "61 s fast"),
            (-300, true, 1, "300 s slow"),
            (301, false, 0, "301 s fast"),
            (-86_400, false, 0, "86400 s slow"),
        ] {
            let checked = step(Timestamp(theirs.0 + ours), Some(theirs));
            let text = match &checked.found {
                Ok(text) => text.clone(),
                Err(problem) => problem.summary.clone(),
            };
            assert_eq!(checked.found.is_ok(), is_ok, "{ours}");
            assert_eq!(checked.notes.len(), notes, "{ours}");
            assert!(text.contains(words), "{ours}: {text}");
        }
        assert!(step(theirs, None).found.is_ok());
    }
}
