//! Compiles the proto files without `protoc`, and keeps their descriptors for the registry.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["nnipa/events/tenant.proto"], ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Messages know their names, by which their schemas are found.
    prost_build::Config::new().enable_type_names().compile_fds(descriptors)?;
    Ok(())
}
