//! Writes the list of the library's modules, so that one that is new there is here as well.

use std::fs;
use std::path::Path;

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/certificates/src");
    let library = source.join("lib.rs");
    println!("cargo::rerun-if-changed={}", library.display());
    let modules: String = fs::read_to_string(&library)
        .expect("the library")
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "))
        .filter_map(|line| line.strip_suffix(';'))
        .filter(|name| !LEFT_OUT.contains(name))
        .map(|name| {
            let file = source.join(format!("{name}.rs"));
            let file = match file.exists() {
                true => file,
                false => source.join(name).join("mod.rs"),
            };
            format!("#[path = {file:?}]\npub mod {name};\n")
        })
        .collect();
    let out = std::env::var_os("OUT_DIR").expect("cargo says where");
    fs::write(Path::new(&out).join("library.rs"), modules).expect("a file");
}

/// The adapters to AWS, and what needs them or nothing here needs.
const LEFT_OUT: [&str; 4] = ["aws", "invocation", "live", "log"];
