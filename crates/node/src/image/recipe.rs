//! What an official image is made of: `images/NAME/recipe.toml` and the files beside it.

use std::collections::BTreeMap;

use include_dir::{Dir, include_dir};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::oci::RunSettings;

/// The recipes that this binary holds.
static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../images");
/// Where Python packages are installed.
pub(crate) const VENV: &str = "/opt/venv";
/// Where programs are looked for when an image says nothing else.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many images may stand on one another.
const DEPTH_MAX: usize = 4;
/// Raised when the builder makes something else of the same recipe.
const BUILDER_VERSION: u32 = 1;

/// Why a recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("recipe of image {name}: {reason}")]
pub struct RecipeError {
    /// The image.
    pub name: String,
    /// What is wrong.
    pub reason: String,
}

/// How an official image is made.
#[derive(Clone, Debug)]
pub struct Recipe {
    name: String,
    text: String,
    content: Content,
    files: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    description: String,
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    suite: Option<String>,
    #[serde(default)]
    apt: Vec<String>,
    #[serde(default)]
    npm: Vec<String>,
    #[serde(default)]
    python: Option<Python>,
    #[serde(default)]
    files: Vec<FileEntry>,
    #[serde(default)]
    run: Run,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Python {
    requirements: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    source: String,
    target: String,
    mode: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Run {
    user: Option<String>,
    env: BTreeMap<String, String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    working_dir: Option<String>,
}

/// What an image stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Foundation<'a> {
    /// A release of Debian.
    Debian(&'a str),
    /// Another official image.
    Image(&'a str),
}

/// A file that a recipe puts into its image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageFile<'a> {
    pub(crate) target: &'a str,
    pub(crate) mode: u32,
    pub(crate) content: &'a [u8],
}

impl Recipe {
    /// The image's name, as in `fermion.dev/NAME:latest`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the image is for, in a few words.
    pub fn description(&self) -> &str {
        &self.content.description
    }

    /// Reads a recipe and checks all that can be checked without building it. `files` are those
    /// beside it, by their path from there.
    pub fn parse(name: &str, text: &str, files: BTreeMap<String, Vec<u8>>) -> Result<Self, RecipeError> {
        let refuse = |reason: String| RecipeError { name: name.to_owned(), reason };
        if !is_name(name) {
            return Err(refuse("its name must be lower-case letters, digits and dashes".to_owned()));
        }
        let content: Content = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let recipe = Self { name: name.to_owned(), text: text.to_owned(), content, files };
        recipe.check().map_err(refuse)?;
        Ok(recipe)
    }

    fn check(&self) -> Result<(), String> {
        match (&self.content.from, &self.content.suite) {
            (Some(name), None) if is_name(name) => {}
            (None, Some(suite)) if is_name(suite) => {}
            _ => return Err("it needs either `from` (an image) or `suite` (a release of Debian)".to_owned()),
        }
        // Words that end up on command lines must not look like options.
        if let Some(package) = self.content.apt.iter().find(|package| !is_apt_package(package)) {
            return Err(format!("{package:?} is no name of a Debian package"));
        }
        if let Some(package) = self.content.npm.iter().find(|package| !is_npm_package(package)) {
            return Err(format!("{package:?} is no npm package with its version, as in name@1.2.3"));
        }
        if let Some(python) = &self.content.python {
            let bytes = self.file(&python.requirements)?;
            let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
            if let Some(line) = requirements(text).find(|line| !is_pinned(line)) {
                return Err(format!("{line:?} in {} is not pinned, as in name==1.2.3", python.requirements));
            }
        }
        for file in &self.content.files {
            self.file(&file.source)?;
            let clean = file.target.starts_with('/') && file.target.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
            if !clean {
                return Err(format!("{:?} is no absolute path of a file", file.target));
            }
        }
        Ok(())
    }

    fn file(&self, path: &str) -> Result<&[u8], String> {
        self.files.get(path).map(Vec::as_slice).ok_or_else(|| format!("there is no file {path:?} beside it"))
    }

    pub(crate) fn foundation(&self) -> Foundation<'_> {
        match (&self.content.from, &self.content.suite) {
            (Some(name), _) => Foundation::Image(name),
            (None, suite) => Foundation::Debian(suite.as_deref().unwrap_or_default()),
        }
    }

    pub(crate) fn apt(&self) -> &[String] {
        &self.content.apt
    }

    pub(crate) fn npm(&self) -> &[String] {
        &self.content.npm
    }

    /// The text of the pinned Python packages, if there are any.
    pub(crate) fn python_requirements(&self) -> Option<&[u8]> {
        let python = self.content.python.as_ref()?;
        // Parsing has found the file.
        self.files.get(&python.requirements).map(Vec::as_slice)
    }

    pub(crate) fn image_files(&self) -> impl Iterator<Item = ImageFile<'_>> {
        self.content.files.iter().filter_map(|file| {
            let content = self.files.get(&file.source)?;
            Some(ImageFile { target: &file.target, mode: file.mode, content })
        })
    }

    /// How containers of the image run, on top of what its foundation says.
    pub(crate) fn run_settings(&self, foundation: RunSettings) -> RunSettings {
        let run = &self.content.run;
        let mut env: BTreeMap<String, String> = foundation
            .env
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let path = env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        let programs = format!("{VENV}/bin:");
        if self.content.python.is_some() && !path.starts_with(&programs) {
            path.insert_str(0, &programs);
        }
        env.extend(run.env.clone());
        let changes_command = !run.entrypoint.is_empty() || !run.cmd.is_empty();
        let (entrypoint, cmd) =
            if changes_command { (run.entrypoint.clone(), run.cmd.clone()) } else { (foundation.entrypoint, foundation.cmd) };
        let mut labels = foundation.labels;
        labels.insert("org.opencontainers.image.title".to_owned(), self.name.clone());
        labels.insert("org.opencontainers.image.description".to_owned(), self.content.description.clone());
        RunSettings {
            user: run.user.clone().unwrap_or(foundation.user),
            env: env.into_iter().map(|(key, value)| format!("{key}={value}")).collect(),
            entrypoint,
            cmd,
            working_dir: run.working_dir.clone().unwrap_or(foundation.working_dir),
            labels,
        }
    }
}

/// A set of recipes in which every foundation is there.
#[derive(Clone, Debug)]
pub struct Recipes {
    // Sorted by name.
    recipes: Vec<Recipe>,
}

impl Recipes {
    /// The official ones.
    pub fn embedded() -> Result<Self, RecipeError> {
        let mut recipes = Vec::new();
        for folder in EMBEDDED.dirs() {
            let Some(recipe) = folder.get_file(folder.path().join("recipe.toml")) else {
                continue;
            };
            let name = folder.path().to_string_lossy().into_owned();
            let mut files = BTreeMap::new();
            collect(folder, folder, &mut files);
            let text = recipe.contents_utf8().unwrap_or_default();
            recipes.push(Recipe::parse(&name, text, files)?);
        }
        Self::new(recipes)
    }

    /// Checks that all foundations are there and none stands on itself.
    pub fn new(mut recipes: Vec<Recipe>) -> Result<Self, RecipeError> {
        recipes.sort_by(|one, other| one.name.cmp(&other.name));
        let all = Self { recipes };
        for recipe in &all.recipes {
            let mut below = recipe;
            let mut depth = 1;
            while let Foundation::Image(name) = below.foundation() {
                let refuse = |reason| RecipeError { name: recipe.name.clone(), reason };
                below = all.get(name).ok_or_else(|| refuse(format!("there is no image {name:?} to stand on")))?;
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(refuse(format!("more than {DEPTH_MAX} images stand on one another")));
                }
            }
        }
        Ok(all)
    }

    /// The recipe of one image.
    pub fn get(&self, name: &str) -> Option<&Recipe> {
        let place = self.recipes.binary_search_by(|recipe| recipe.name.as_str().cmp(name)).ok()?;
        self.recipes.get(place)
    }

    /// All, by name.
    pub fn all(&self) -> &[Recipe] {
        &self.recipes
    }

    /// What an image is known by before it is built: the same key means the same recipe and files,
    /// on the same foundation, for the same architecture.
    pub(crate) fn key(&self, recipe: &Recipe) -> String {
        let below = match recipe.foundation() {
            Foundation::Debian(suite) => suite.to_owned(),
            // `new` has checked that it is there and that this ends.
            Foundation::Image(name) => self.get(name).map(|below| self.key(below)).unwrap_or_default(),
        };
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        add(&BUILDER_VERSION.to_le_bytes());
        add(super::oci::architecture().as_bytes());
        add(below.as_bytes());
        add(recipe.text.as_bytes());
        for (path, content) in &recipe.files {
            add(path.as_bytes());
            add(content);
        }
        super::oci::hexadecimal(hash.finalize().as_slice())
    }
}

fn collect(root: &Dir<'_>, folder: &Dir<'_>, into: &mut BTreeMap<String, Vec<u8>>) {
    for file in folder.files() {
        let path = file.path().strip_prefix(root.path()).unwrap_or(file.path());
        into.insert(path.to_string_lossy().into_owned(), file.contents().to_vec());
    }
    for below in folder.dirs() {
        collect(root, below, into);
    }
}

fn is_name(text: &str) -> bool {
    starts_well(text) && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn starts_well(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
}

fn is_apt_package(text: &str) -> bool {
    starts_well(text) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:=~".contains(&byte))
}

fn is_npm_package(text: &str) -> bool {
    let (scope, rest) = text.strip_prefix('@').map_or(("", text), |rest| rest.split_once('/').unwrap_or(("", "")));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    rest.split_once('@').is_some_and(|(name, version)| {
        plain(scope) && starts_well(name) && plain(name) && version.starts_with(|c: char| c.is_ascii_digit()) && plain(version)
    })
}

/// The packages of a requirements file, without comments.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

fn is_pinned(line: &str) -> bool {
    line.split_once("==").is_some_and(|(name, version)| {
        name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]".contains(&byte))
            && version.starts_with(|first: char| first.is_ascii_digit())
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.+!".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe, RecipeError> {
        let files = BTreeMap::from([
            ("pinned.txt".to_owned(), b"# why\nnumpy==2.4.6 # here\n\njupyter-core==5.9.1\n".to_vec()),
            ("loose.txt".to_owned(), b"numpy>=2\n".to_vec()),
            ("option.txt".to_owned(), b"--index-url=https://evil\n".to_vec()),
        ]);
        Recipe::parse("test", &format!("description = 'd'\n{text}"), files)
    }

    #[test]
    fn the_official_recipes_are_sound() {
        let recipes = Recipes::embedded().unwrap();
        let names: Vec<&str> = recipes.all().iter().map(Recipe::name).collect();
        assert_eq!(names, ["base", "llm", "python"]);
    }

    #[test]
    fn what_is_not_sound_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "needs either"),
            ("from = 'a'\nsuite = 'b'", "needs either"),
            ("from = '../a'", "needs either"),
            ("from = 'a'\napt = ['-o=x']", "no name of a Debian package"),
            ("from = 'a'\napt = ['x y']", "no name of a Debian package"),
            ("from = 'a'\nnpm = ['left-pad']", "no npm package"),
            ("from = 'a'\npython = { requirements = 'loose.txt' }", "is not pinned"),
            ("from = 'a'\npython = { requirements = 'option.txt' }", "is not pinned"),
            ("from = 'a'\npython = { requirements = 'none.txt' }", "no file"),
            ("from = 'a'\nfiles = [{ source = 'pinned.txt', target = '/a/../b', mode = 420 }]", "no absolute path"),
            ("from = 'a'\nfiles = [{ source = 'pinned.txt', target = 'a', mode = 420 }]", "no absolute path"),
            ("from = 'a'\nsurprise = 1", "surprise"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
        assert!(parse("from = 'a'\napt = ['libstdc++6']\nnpm = ['@a/b@1.0.0']\npython = { requirements = 'pinned.txt' }").is_ok());
    }

    #[test]
    fn images_that_stand_on_themselves_or_on_nothing_are_refused() {
        assert!(Recipes::new(vec![parse("from = 'test'").unwrap()]).is_err());
        assert!(Recipes::new(vec![parse("from = 'missing'").unwrap()]).is_err());
    }

    #[test]
    fn the_key_changes_with_the_foundation() {
        let make = |suite: &str| {
            let below = Recipe::parse("below", &format!("description = 'd'\nsuite = '{suite}'"), BTreeMap::new()).unwrap();
            let recipes = Recipes::new(vec![below, parse("from = 'below'").unwrap()]).unwrap();
            recipes.key(recipes.get("test").unwrap())
        };
        assert_eq!(make("bookworm"), make("bookworm"));
        assert_ne!(make("bookworm"), make("trixie"));
    }

    #[test]
    fn settings_add_to_those_below() {
        let below = parse("suite = 'bookworm'\nrun = { cmd = ['bash'], env = { LANG = 'C.UTF-8' } }").unwrap();
        let settings = below.run_settings(RunSettings::default());
        assert_eq!(settings.env, ["LANG=C.UTF-8".to_owned(), format!("PATH={PATH}")]);
        let above = parse("from = 'test'\npython = { requirements = 'pinned.txt' }\nrun = { entrypoint = ['serve'] }").unwrap();
        let settings = above.run_settings(settings);
        assert_eq!(settings.env, ["LANG=C.UTF-8".to_owned(), format!("PATH=/opt/venv/bin:{PATH}")]);
        assert_eq!((settings.entrypoint, settings.cmd), (vec!["serve".to_owned()], vec![]));
    }
}
