//! test
use super::context::{Context, Failure};
/// x
pub async fn run(_: &Context, _: &[String], _: bool) -> Result<u8, Failure> {
    Ok(0)
}
