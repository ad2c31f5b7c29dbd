//! The log over a file system that loses power, fills up and fails.

mod faults;
mod power_loss;
mod rig;
mod sim;
