//! Rebuilds the crate when a migration is added: the macro that embeds them does not tell Cargo of new files.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
