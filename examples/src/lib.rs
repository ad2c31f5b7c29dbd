//! Whole programs over the service inside an application. Each is a module that tests run, and a binary that people do.

pub mod tenant_created;
