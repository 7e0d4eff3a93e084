//! Writes the list of the library's modules: a module that is new in the library is included here
//! as well.

use std::fs;
use std::path::Path;

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../functions/certificates/src");
    let modules: String = modules_of(&source.join("lib.rs"))
        .iter()
        .filter(|name| !LEFT_OUT.contains(&name.as_str()))
        .map(|name| {
            let folder = source.join(name);
            match PARTLY.contains(&name.as_str()) {
                true => {
                    let parts = modules_of(&folder.join("mod.rs"));
                    let parts = parts
                        .iter()
                        .filter(|part| !LEFT_OUT.contains(&part.as_str()));
                    let parts: String = parts.map(|part| declared(&folder, part)).collect();
                    format!("pub mod {name} {{\n{parts}}}\n")
                }
                false => declared(&source, name),
            }
        })
        .collect();
    let out = std::env::var_os("OUT_DIR").expect("cargo says where");
    fs::write(Path::new(&out).join("library.rs"), modules).expect("a file");
}

/// Returns the names of the modules that a file declares.
fn modules_of(file: &Path) -> Vec<String> {
    println!("cargo::rerun-if-changed={}", file.display());
    let text = fs::read_to_string(file).expect("the library");
    let declared = text.lines().filter_map(|line| {
        let line = line
            .trim_start_matches("pub(crate) ")
            .trim_start_matches("pub ");
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.map(str::to_owned).collect()
}

/// Declares a module of a folder.
fn declared(folder: &Path, name: &str) -> String {
    let file = folder.join(format!("{name}.rs"));
    let file = match file.exists() {
        true => file,
        false => folder.join(name).join("mod.rs"),
    };
    format!("#[path = {file:?}]\npub mod {name};\n")
}

/// The adapters to AWS, modules that need them, and modules that nothing here needs. A folder that
/// is only partly included also loses the contents of its own file.
const LEFT_OUT: [&str; 4] = ["aws", "live", "log", "tests"];
const PARTLY: [&str; 2] = ["adapters", "invocation"];
