//! Parses the command line, runs the command, returns its exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

/// Wipes every piece of memory that is freed: whatever a secret passed through on its way (buffers
/// of HTTP, JSON, TLS) holds it no longer than it is in use.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

fn main() -> ExitCode {
    purser::cli::run()
}
