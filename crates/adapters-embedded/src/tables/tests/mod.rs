mod disk;
mod opening;
mod writing;

pub(crate) use disk::Disk;
