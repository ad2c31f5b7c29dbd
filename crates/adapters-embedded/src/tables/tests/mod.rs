mod disk;
mod opening;
mod writing;

pub(crate) use disk::Disk;
pub(crate) use writing::hold_up;
