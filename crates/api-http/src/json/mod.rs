//! JSON by hand: read without copying and with every field named, written without going through a tree.

mod object;
mod read;
mod write;

pub(crate) use object::Object;
pub(crate) use read::{
    DEPTH_MAX, base64_bytes, depth_within, elements, integer, is_null, members, short, string, unknown_field,
    wrong_type,
};
pub(crate) use write::{push_base64, push_string, push_u64};
