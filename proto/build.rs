//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::error::Error;

const FILES: [&str; 6] = [
    "braidcast/v1/film.proto",
    "braidcast/v1/auth.proto",
    "braidcast/v1/catalogue.proto",
    "braidcast/v1/distribution.proto",
    "braidcast/v1/cluster.proto",
    "braidcast/v1/maintenance.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
