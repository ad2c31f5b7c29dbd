//! Compiles the proto files without `protoc`, and keeps their descriptors for reflection.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "event",
        "publisher",
        "subscriber",
        "subscriptions",
        "topics",
        "schemas",
        "replays",
        "groups",
        "dead_letters",
    ];
    let files = files.map(|file| format!("eventstreaming/v1/{file}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Payloads are slices of the message that they came in.
    tonic_prost_build::configure()
        .bytes(".eventstreaming.v1")
        .codec_path("crate::codec::SizedCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
