//! kube-apiserver and kube-controller-manager, built from Debian's source package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::console::Console;
use crate::{packages, process, tools};

/// Names a kube-apiserver to use instead; kube-controller-manager stands beside it.
const VARIABLE: &str = "FERMION_KUBE_APISERVER";
/// The programs that the comparison needs.
const PROGRAMS: [&str; 2] = ["kube-apiserver", "kube-controller-manager"];
/// A library that Kubernetes brings along: of a version that crashes on maps when compiled by Go
/// 1.18 or newer, as soon as an object of a custom kind is read. Debian packages the next version,
/// which does not.
const REPAIRED_LIBRARY: &str = "github.com/modern-go/reflect2";
/// Where Debian's packages of Go libraries are unpacked.
const DEBIAN_LIBRARIES: &str = "/usr/share/gocode/src";
/// What Debian's source package holds, as Kubernetes numbers its releases.
const VERSION: &str = "v1.20.2";

/// The folder of the programs, built if there are none. A build takes about twelve minutes on two
/// cores, once.
pub(super) fn binaries(console: &Console) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(VARIABLE) {
        let folder = Path::new(&given).parent().unwrap_or(Path::new(".")).to_owned();
        ensure!(are_in(&folder), "{VARIABLE} must name a kube-apiserver with kube-controller-manager beside it");
        return Ok(folder);
    }
    let folder = tools::cache()?.join(format!("tools/kube-{VERSION}"));
    if !are_in(&folder) {
        packages::install(console, &packages::TO_BUILD_KUBERNETES)?;
        build(console, &folder)?;
    }
    Ok(folder)
}

fn are_in(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

fn build(console: &Console, target: &Path) -> Result<()> {
    let work = tools::cache()?.join("tools/kube-build");
    let sources = work.join("go/src/k8s.io");
    fs::create_dir_all(&sources).with_context(|| format!("cannot create {}", sources.display()))?;
    let tree = sources.join("kubernetes");
    if !tree.is_dir() {
        console.timed("fetching Debian's source package of Kubernetes", || fetch(&work, &tree))?;
    }
    repair(&tree)?;
    console.timed("building kube-apiserver and kube-controller-manager; this takes a while, once", || {
        let mut make = Command::new("make");
        make.current_dir(&tree).arg(format!("WHAT={}", PROGRAMS.map(|program| format!("cmd/{program}")).join(" ")));
        make.arg(format!("KUBE_GIT_VERSION={VERSION}"));
        // The tree is from before modules; what it stands on is in its vendor folder.
        make.env("GOPATH", work.join("go")).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
        process::run(&mut make, "the same command by hand, in that folder, shows all of its output")
    })?;
    fs::create_dir_all(target).with_context(|| format!("cannot create {}", target.display()))?;
    for program in PROGRAMS {
        let built = tree.join("_output/bin").join(program);
        fs::copy(&built, target.join(program)).with_context(|| format!("the build left no {}", built.display()))?;
    }
    // Gigabytes that nobody needs again; what stays behind is harmless.
    let _ = fs::remove_dir_all(&work);
    Ok(())
}

/// Puts Debian's version of the library that crashes in the place of the one that does.
fn repair(tree: &Path) -> Result<()> {
    let (from, to) = (Path::new(DEBIAN_LIBRARIES).join(REPAIRED_LIBRARY), tree.join("vendor").join(REPAIRED_LIBRARY));
    fs::remove_dir_all(&to).with_context(|| format!("cannot replace {}", to.display()))?;
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().context("a file has a name")?;
        let is_source = path.extension().is_some_and(|extension| extension == "go" || extension == "s");
        if is_source && !name.to_string_lossy().ends_with("_test.go") {
            fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Unpacks the source package into a tree. apt reads sources from where the machine reads
/// packages, with lists of its own, so nothing about the machine changes.
fn fetch(work: &Path, tree: &Path) -> Result<()> {
    let settings = work.join("apt");
    let parts = settings.join("sources.list.d");
    fs::create_dir_all(&parts).context("cannot create a folder for apt")?;
    fs::create_dir_all(settings.join("lists/partial")).context("cannot create a folder for apt")?;
    let mut main = String::new();
    for file in apt_files(Path::new("/etc/apt"))? {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if file.extension().is_some_and(|extension| extension == "sources") {
            let name = file.file_name().context("a file has a name")?;
            fs::write(parts.join(name), source_paragraphs(&text)).context("cannot write sources for apt")?;
        } else {
            main.push_str(&source_lines(&text));
        }
    }
    fs::write(settings.join("sources.list"), main).context("cannot write sources for apt")?;
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(work).arg("-q");
        for (option, path) in
            [("Dir::Etc::SourceList", "sources.list"), ("Dir::Etc::SourceParts", "sources.list.d"), ("Dir::State::Lists", "lists")]
        {
            command.arg("-o").arg(format!("{option}={}", settings.join(path).display()));
        }
        // Downloads as the caller, who owns the folder.
        command.args(["-o", "APT::Sandbox::User="]).args(words);
        process::run(&mut command, "do the machine's apt sources offer source packages (deb-src)?")
    };
    apt(&["update"])?;
    apt(&["source", "--quiet", "kubernetes"])?;
    let unpacked = fs::read_dir(work)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.is_dir() && path.join("cmd/kube-apiserver").is_dir())
        .context("the source package holds no kube-apiserver")?;
    fs::rename(&unpacked, tree).with_context(|| format!("cannot move {}", unpacked.display()))
}

/// Files that say where apt reads from.
fn apt_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let main = directory.join("sources.list");
    if main.is_file() {
        files.push(main);
    }
    let parts = directory.join("sources.list.d");
    if parts.is_dir() {
        for entry in fs::read_dir(&parts).with_context(|| format!("cannot read {}", parts.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "list" || extension == "sources") {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// `deb …` as `deb-src …`.
fn source_lines(text: &str) -> String {
    let sources: Vec<String> = text.lines().filter_map(|line| Some(format!("deb-src {}\n", line.strip_prefix("deb ")?))).collect();
    sources.concat()
}

/// The same in the newer format: `Types: deb` as `Types: deb-src`.
fn source_paragraphs(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| if line.starts_with("Types:") { "Types: deb-src" } else { line }).collect();
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_from_where_packages_are() {
        let lines = "# comment\ndeb [signed-by=/a] http://x.example bookworm main\ndeb-src http://x.example bookworm main\n";
        assert_eq!(source_lines(lines), "deb-src [signed-by=/a] http://x.example bookworm main\n");
        let paragraph = "Types: deb\nURIs: http://x.example\nSuites: bookworm\n";
        assert_eq!(source_paragraphs(paragraph), "Types: deb-src\nURIs: http://x.example\nSuites: bookworm\n");
    }
}
