//! Generates the twins of the agent protocol's messages from `proto/`, in pure Rust.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // The service files import all the others.
    let files = protox::compile(
        ["ca.proto", "dispatcher.proto", "log_broker.proto", "resource_allocator.proto"],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        // Payloads, keys and tokens travel in these messages, so none of them can be printed.
        .skip_debug(["."])
        .compile_fds(files)?;
    Ok(())
}
