use super::{Outcome, Shared};
use std::sync::Arc;
pub(super) async fn publish(_shared: Arc<Shared>, _numbers: Vec<usize>) -> Outcome<()> {
    let _ = super::ledger::Way::Grpc;
    Ok(())
}
