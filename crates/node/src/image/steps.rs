//! The steps in which one image is built from its recipe.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::enter::{self, BuildFolder, Mount};
use super::host_settings::{HostSettings, INSIDE};
use super::oci::{self, Image};
use super::recipe::{Foundation, Recipe, VENV};
use super::store::Store;
use super::{Error, import, layer};
use crate::cri::CHANGE_TIMEOUT;
use crate::runtime::tool::{self, Tool};

/// How long Debian's packages may take to be fetched and installed.
const APT_TIMEOUT: Duration = Duration::from_mins(20);
/// How long Python's packages may take.
const PYTHON_TIMEOUT: Duration = Duration::from_mins(30);
/// How long npm's packages may take.
const NPM_TIMEOUT: Duration = Duration::from_mins(30);
/// Documentation is left out, except for what licences ask for.
const DPKG_OPTIONS: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];
/// Where this machine says of which release it is.
const OS_RELEASE: &str = "/etc/os-release";
/// Where this machine says where its packages come from.
const APT_SOURCES: &str = "/etc/apt/sources.list";
const APT_SOURCE_PARTS: &str = "/etc/apt/sources.list.d";

/// One step, and what to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Debian,
    Below,
    Apt,
    Python,
    Npm,
    Pack,
}

impl Step {
    /// What a recipe takes, in order.
    pub(crate) fn of(recipe: &Recipe) -> Vec<Self> {
        let mut steps = match recipe.foundation() {
            Foundation::Debian(_) => vec![Self::Debian],
            Foundation::Image(_) => vec![Self::Below],
        };
        if matches!(recipe.foundation(), Foundation::Image(_)) && !recipe.apt().is_empty() {
            steps.push(Self::Apt);
        }
        if recipe.python_requirements().is_some() {
            steps.push(Self::Python);
        }
        if !recipe.npm().is_empty() {
            steps.push(Self::Npm);
        }
        steps.push(Self::Pack);
        steps
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::Debian => "installing Debian",
            Self::Below => "laying the image below",
            Self::Apt => "installing Debian packages",
            Self::Python => "installing Python packages",
            Self::Npm => "installing npm packages",
            Self::Pack => "packing",
        }
    }

    /// What a person can do when the step failed.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Debian | Self::Apt => "see that `apt-get update` works on this machine: its apt sources, proxy and certificates are used",
            Self::Python => "see that `pip download` works on this machine: its pip settings, proxy and certificates are used",
            Self::Npm => "see that `npm view` works on this machine: its npm settings, proxy and certificates are used",
            Self::Below => "see what containerd's log, logs/containerd.log, says",
            Self::Pack => "see that the disk has room",
        }
    }
}

/// Builds one image.
pub(crate) struct Build<'a> {
    pub(crate) recipe: &'a Recipe,
    /// The image that it stands on, which containerd has.
    pub(crate) foundation: Option<&'a Image>,
    /// containerd's socket.
    pub(crate) containerd: &'a Path,
    pub(crate) store: &'a Store,
    /// An empty folder, of the store's file system.
    pub(crate) folder: &'a Path,
    /// Everything that the tools say goes here.
    pub(crate) log: &'a Path,
}

impl Build<'_> {
    /// Runs all steps; `report` is told each step and what goes on in it.
    pub(crate) async fn run(&self, mut report: impl FnMut(Step, &str)) -> Result<Image, Error> {
        let build_start = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let mut log = File::create(self.log).map_err(|source| self.file_error("write", self.log, source))?;
        for folder in ["lower", "upper", "merged", "settings", "apt/lists/partial"] {
            self.create(&self.folder.join(folder))?;
        }
        let settings = HostSettings::of_this_machine();
        self.write_settings(&settings)?;
        let failed = |step: Step, source: StepError| Error::Step {
            image: self.recipe.name().to_owned(),
            step: step.message(),
            advice: step.advice(),
            log: self.log.to_owned(),
            source: Box::new(source),
        };
        let view = View::new(self.containerd, self.recipe.name());
        let mut below = Mount { kind: "none".to_owned(), source: "none".to_owned(), options: "defaults".to_owned() };
        for step in Step::of(self.recipe) {
            report(step, "");
            let folder = BuildFolder { path: self.folder, below: &below };
            let tools = match step {
                Step::Below => {
                    let foundation = self.foundation.map(Image::chain_id).unwrap_or_default();
                    below = view.open(&foundation).await.map_err(|source| failed(step, source))?;
                    Vec::new()
                }
                Step::Debian => vec![self.debian()?],
                Step::Apt => self.apt(folder)?,
                Step::Python => vec![python(folder, &settings)],
                Step::Npm => vec![self.npm(folder, &settings)],
                Step::Pack => {
                    view.close().await;
                    return self.pack(build_start).await.map_err(|source| failed(step, StepError::Files(source)));
                }
            };
            for tool in tools {
                let run = tool.run_with(|_, line| {
                    // A log that cannot be written must not fail a build that works.
                    let _ = writeln!(log, "{line}");
                    if is_news(line) {
                        report(step, line);
                    }
                });
                if let Err(source) = run.await {
                    view.close().await;
                    return Err(failed(step, source.into()));
                }
            }
        }
        unreachable!("packing is the last step of every recipe")
    }

    fn write_settings(&self, settings: &HostSettings) -> Result<(), Error> {
        let root = self.folder.join("settings");
        let requirements = self.recipe.python_requirements().map(|text| (PathBuf::from("requirements.txt"), text));
        let files = settings.files.iter().map(|(path, text)| (path.clone(), text.as_bytes())).chain(requirements);
        for (path, text) in files {
            let path = root.join(path);
            self.create(path.parent().unwrap_or(&root))?;
            fs::write(&path, text).map_err(|source| self.file_error("write", &path, source))?;
        }
        self.create(&root.join("home"))
    }

    /// A whole Debian with the recipe's packages, straight into `upper`.
    fn debian(&self) -> Result<Tool, Error> {
        let Foundation::Debian(suite) = self.recipe.foundation() else { unreachable!("the step is only for recipes that stand on Debian") };
        let release = machine_release();
        if release.as_deref() != Some(suite) {
            return Err(Error::Release { image: self.recipe.name().to_owned(), wanted: suite.to_owned(), release });
        }
        let sources = apt_sources();
        if sources.is_empty() {
            return Err(Error::NoAptSources { image: self.recipe.name().to_owned() });
        }
        let mut tool = enter::apart(APT_TIMEOUT)
            .args(["--", "env", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", &format!("PATH={}", enter::PATH)])
            .args(["mmdebstrap", "--mode=root", "--variant=apt", "--format=directory"])
            // The build's folder is root's own; apt's own user could not fetch into it.
            .args(["--aptopt=APT::Sandbox::User \"root\"", "--aptopt=Acquire::Languages \"none\"", "--aptopt=Acquire::Retries \"3\""])
            .arg(format!("--aptopt={}", self.apt_settings()?.display()))
            .arg(format!("--include={}", self.recipe.apt().join(",")));
        for option in DPKG_OPTIONS {
            tool = tool.arg(format!("--dpkgopt={option}"));
        }
        tool = tool.args(["--skip=check/empty", suite]).arg(self.folder.join("upper"));
        Ok(tool.args(sources).label("mmdebstrap"))
    }

    /// This machine's settings for fetching packages, for the apt that works on a new Debian.
    fn apt_settings(&self) -> Result<PathBuf, Error> {
        const SETTINGS: &str = "Dir::Etc::netrc \"/etc/apt/auth.conf\";\nDir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\n";
        let dump = std::process::Command::new("apt-config")
            .args(["dump", "--no-empty", "Acquire"])
            .output()
            .map_err(|source| self.file_error("run", Path::new("apt-config"), source))?;
        let path = self.folder.join("host-apt.conf");
        let text = format!("{SETTINGS}{}", String::from_utf8_lossy(&dump.stdout));
        fs::write(&path, text).map_err(|source| self.file_error("write", &path, source))?;
        Ok(path)
    }

    /// The machine's own apt installs into the image, with its own sources and settings.
    fn apt(&self, folder: BuildFolder<'_>) -> Result<Vec<Tool>, Error> {
        let archives = self.folder.join("upper/var/cache/apt/archives/partial");
        self.create(&archives)?;
        let configuration = self.folder.join("apt.conf");
        fs::write(&configuration, apt_configuration(self.folder)).map_err(|source| self.file_error("write", &configuration, source))?;
        let apt_get = |args: &[&str], packages: &[String]| {
            let path = format!("PATH={}", enter::PATH);
            let words = ["env", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", &path, "apt-get", "-c", "apt.conf", "--quiet"];
            let mut command: Vec<OsString> = words.iter().chain(args).map(OsString::from).collect();
            command.extend(packages.iter().map(OsString::from));
            folder.on_machine(APT_TIMEOUT, &command).label(&format!("apt-get {}", args.join(" ")))
        };
        Ok(vec![apt_get(&["update"], &[]), apt_get(&["install", "--yes", "--no-install-recommends"], self.recipe.apt())])
    }

    fn npm(&self, folder: BuildFolder<'_>, settings: &HostSettings) -> Tool {
        // Parsing the recipe has checked that each is a name with a version, so none needs quoting.
        let script = format!("npm install --global --no-fund --no-audit --no-update-notifier {}", self.recipe.npm().join(" "));
        folder.in_image(settings, NPM_TIMEOUT, &script).label("npm install")
    }

    /// Adds the recipe's files and makes a layer of what is in `upper`.
    async fn pack(&self, build_start: u64) -> std::io::Result<Image> {
        let upper = self.folder.join("upper");
        for file in self.recipe.image_files() {
            let path = upper.join(file.target.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap_or(&upper))?;
            fs::write(&path, file.content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        let archive = self.folder.join("layer.tar");
        let target = archive.clone();
        let new = blocking(move || layer::pack(&upper, build_start, &target)).await?;
        self.store.take_layer(&new, &archive)?;
        let (below, mut layers) = match self.foundation {
            Some(image) => (image.settings()?, image.manifest.layers.clone()),
            None => (oci::RunSettings::default(), Vec::new()),
        };
        layers.push(new);
        Ok(Image::new(self.recipe.run_settings(below), layers))
    }

    fn create(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder).map_err(|source| self.file_error("create", folder, source))
    }

    fn file_error(&self, action: &'static str, path: &Path, source: std::io::Error) -> Error {
        Error::File { image: self.recipe.name().to_owned(), action, path: path.to_owned(), source }
    }
}

/// The pinned packages, from wheels alone, so that no code of a package runs as root here.
fn python(folder: BuildFolder<'_>, settings: &HostSettings) -> Tool {
    let script = format!(
        r"
        [ -e {VENV}/bin/python3 ] || python3 -m venv {VENV}
        {VENV}/bin/pip install --no-deps --no-compile --only-binary=:all: --progress-bar=off \
            --disable-pip-version-check --root-user-action=ignore --requirement {INSIDE}/requirements.txt
        # Hash-based, never checked: the files' times are not what they were when it was compiled.
        # Some packages ship files that are no valid Python, for their tests; those stay as they are.
        {VENV}/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash {VENV}/lib > /dev/null ||
            echo 'some files could not be compiled ahead'
        "
    );
    folder.in_image(settings, PYTHON_TIMEOUT, &script).label("pip install")
}

/// What made a step fail.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A program said no or took too long.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// Files could not be read or written.
    #[error("files could not be read or written")]
    Files(#[source] std::io::Error),
    /// containerd's answer was not what we know.
    #[error("containerd says how to mount the image below in a way that we cannot read: {0:?}")]
    Answer(String),
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// containerd's view of the image below: its files as they lie in containerd, unpacked once for all
/// containers and builds.
struct View<'a> {
    containerd: &'a Path,
    key: String,
}

impl<'a> View<'a> {
    /// Where the answer says the view would be mounted.
    const PLACE: &'static str = "/fermion-build";

    fn new(containerd: &'a Path, image: &str) -> Self {
        Self { containerd, key: format!("fermion-build-{image}") }
    }

    async fn open(&self, chain_id: &str) -> Result<Mount, StepError> {
        // One may be left of a build that was killed.
        self.close().await;
        // Not `view`: what that makes is garbage to containerd until it is labelled, and gone if it
        // collects garbage in between. `prepare` labels what it makes as it makes it.
        let answer = self.ctr(&["prepare", "--target", Self::PLACE, &self.key, chain_id]).run().await?;
        let writable = read_mount(answer.trim(), Self::PLACE).ok_or(StepError::Answer(answer))?;
        Ok(Mount { options: format!("ro,{}", writable.options), ..writable })
    }

    async fn close(&self) {
        // Mostly it is not there; if it stays, the next build of the image removes it.
        if let Err(error) = self.ctr(&["rm", &self.key]).run().await {
            tracing::debug!(%error, "no view of the image below was removed");
        }
    }

    fn ctr(&self, words: &[&str]) -> Tool {
        Tool::new("ctr")
            // Each of these is flushed to a disk that others may keep busy.
            .timeout(CHANGE_TIMEOUT)
            .arg("--address")
            .arg(self.containerd)
            .args(["--namespace", import::NAMESPACE, "snapshots", "--snapshotter", import::SNAPSHOTTER])
            .args(words)
    }
}

/// Reads `mount -t KIND SOURCE PLACE -o OPTIONS`, where anything may hold spaces.
fn read_mount(line: &str, place: &str) -> Option<Mount> {
    let (kind, rest) = line.strip_prefix("mount -t ")?.split_once(' ')?;
    let (source, options) = rest.split_once(&format!(" {place} -o "))?;
    let plain = !line.contains('\n');
    plain.then(|| Mount { kind: kind.to_owned(), source: source.to_owned(), options: options.to_owned() })
}

/// What is added to the machine's own settings, after them: work on the image and not on the
/// machine, and run none of the machine's hooks.
fn apt_configuration(folder: &Path) -> String {
    let folder = folder.display();
    let hooks = ["DPkg::Pre-Invoke", "DPkg::Post-Invoke", "DPkg::Pre-Install-Pkgs", "APT::Update::Pre-Invoke"];
    let hooks = hooks.iter().chain(&["APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"]);
    let cleared = hooks.map(|hook| format!("#clear {hook};")).collect::<Vec<_>>().join("\n");
    format!(
        r#"{cleared}
Dir::State "{folder}/apt/";
Dir::State::lists "{folder}/apt/lists/";
Dir::State::status "{folder}/merged/var/lib/dpkg/status";
Dir::State::extended_states "{folder}/merged/var/lib/apt/extended_states";
Dir::Cache "{folder}/apt/";
Dir::Cache::archives "{folder}/merged/var/cache/apt/archives/";
Dir::Log "{folder}/apt/";
DPkg::Chroot-Directory "{folder}/merged";
DPkg::Options {{ "--force-unsafe-io"; "--force-confold"; }};
DPkg::Use-Pty "false";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
"#
    )
}

/// The code name of the Debian that this machine runs.
fn machine_release() -> Option<String> {
    let text = fs::read_to_string(OS_RELEASE).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned())
}

/// The files that say where this machine's packages come from.
fn apt_sources() -> Vec<PathBuf> {
    let mut parts: Vec<PathBuf> = fs::read_dir(APT_SOURCE_PARTS)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "list" || extension == "sources"))
        .collect();
    parts.sort();
    parts.insert(0, PathBuf::from(APT_SOURCES));
    parts.retain(|path| fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() > 0));
    parts
}

/// Whether a line says what goes on, and not only how.
fn is_news(line: &str) -> bool {
    ["I: ", "Get:", "Collecting ", "Downloading ", "Installing ", "Unpacking ", "Setting up "]
        .iter()
        .any(|start| line.trim_start().starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::recipe::Recipes;

    #[test]
    fn every_official_recipe_ends_with_packing() {
        for recipe in Recipes::embedded().unwrap().all() {
            assert_eq!(Step::of(recipe).last(), Some(&Step::Pack), "{}", recipe.name());
        }
    }

    #[test]
    fn containerds_words_on_mounts_are_read() {
        let mount = read_mount("mount -t bind /a home/2/fs /place -o ro,rbind", "/place").unwrap();
        assert_eq!(mount, Mount { kind: "bind".into(), source: "/a home/2/fs".into(), options: "ro,rbind".into() });
        let mount = read_mount("mount -t overlay overlay /place -o lowerdir=/b:/a", "/place").unwrap();
        assert_eq!(mount.options, "lowerdir=/b:/a");
        for damaged in ["", "mount -t bind", "mount -t bind /a /elsewhere -o ro", "mount -t a b /place -o c\nmore"] {
            assert_eq!(read_mount(damaged, "/place"), None, "{damaged}");
        }
    }

    #[test]
    fn the_machines_own_hooks_and_state_are_left_alone() {
        let text = apt_configuration(Path::new("/home/images/work/x"));
        assert!(text.contains("#clear DPkg::Post-Invoke;"));
        assert!(text.lines().filter(|line| line.starts_with("Dir::")).all(|line| line.contains("\"/home/images/work/x/")));
    }
}
