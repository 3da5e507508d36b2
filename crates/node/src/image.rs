//! Official images: built on this machine from the recipes in `images/`, cached by content, kept
//! in containerd. No registry is needed for them, only the machine's own package sources.
//!
//! Start reading at [`Builder::ensure`]. [`recipe`] says what an image is made of, [`steps`] how it
//! is built, [`store`] where it is kept, [`import`] how containerd gets it.
//!
//! An image's settings, cache and build never meet: what the machine's package tools need is
//! mounted while they run ([`host_settings`]), and what belongs to the machine is never packed
//! ([`layer`]). An image has no apt sources, so `apt-get install` in a container needs some first.

mod enter;
mod host_settings;
pub(crate) mod import;
mod layer;
pub(crate) mod oci;
mod recipe;
mod steps;
mod store;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

pub use import::ImportError;
pub use recipe::{Recipe, RecipeError, Recipes};
pub use steps::StepError;

use crate::cri::{self, Cri};
use oci::Image;
use recipe::Foundation;
use steps::{Build, Step};
use store::Store;

/// What the name of every official image starts with.
pub const PREFIX: &str = "fermion.dev/";
/// The only tag that an official image has.
const TAG: &str = "latest";
/// How many images are built at the same time: they fetch and compress, and machines are small.
const BUILDS_AT_A_TIME: usize = 2;

/// How much of a tool's line is passed on as progress.
const DETAIL_CHARS_MAX: usize = 80;

/// Why an official image is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image has the name.
    #[error("there is no official image {name:?}; there are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A step of the build failed.
    #[error("image {image} could not be built: {step} failed; {advice}; {} has the whole output", log.display())]
    Step {
        /// The image.
        image: String,
        /// What was being done.
        step: &'static str,
        /// What a person can do.
        advice: &'static str,
        /// Where the tools' whole output is.
        log: PathBuf,
        /// What happened.
        #[source]
        source: Box<StepError>,
    },
    /// The machine is of another release than the recipe.
    #[error(
        "image {image} is made of Debian {wanted} from this machine's own apt sources, but this machine is {}: \
         build it on Debian {wanted}, or bring the image with its cache folder",
        release.as_deref().unwrap_or("no Debian")
    )]
    Release {
        /// The image.
        image: String,
        /// The release that its recipe names.
        wanted: String,
        /// The machine's.
        release: Option<String>,
    },
    /// The machine does not say where packages come from.
    #[error("image {image} cannot be built: this machine has no apt sources (/etc/apt/sources.list or sources.list.d)")]
    NoAptSources {
        /// The image.
        image: String,
    },
    /// A file could not be read or written.
    #[error("image {image} could not be built: could not {action} {}", path.display())]
    File {
        /// The image.
        image: String,
        /// What was attempted.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// containerd does not take the image.
    #[error("image {image} is built, but containerd does not take it")]
    Import {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<ImportError>,
    },
    /// containerd cannot be asked.
    #[error("could not ask containerd for image {image}")]
    Cri {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<cri::Error>,
    },
    /// The task that built it is gone.
    #[error("the build of image {image} was broken off")]
    BrokenOff {
        /// The image.
        image: String,
    },
    /// The folder for images cannot be used.
    #[error("could not use {} for images", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A recipe in this binary is damaged.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// How far a build is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The step at work, from 1.
    pub step: usize,
    /// How many there are.
    pub total: usize,
    /// What goes on, for people.
    pub message: String,
}

/// An official image that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its full name, as pods say it.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: String,
    /// The bytes of all its layers, unpacked.
    pub size_bytes: u64,
}

/// An official image, there or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfficialImage {
    /// Its short name.
    pub name: String,
    /// Its full name, as pods say it.
    pub reference: String,
    /// What it is for.
    pub description: String,
    /// Nothing until it is needed for the first time.
    pub built: Option<BuiltImage>,
}

/// Where images are built and kept.
#[derive(Clone, Debug)]
pub struct BuilderConfig {
    /// `FERMION_HOME`. Only one builder may be at work on a home.
    pub home: PathBuf,
    /// A folder that homes share, so that an image is built once for all of them.
    pub shared_cache: Option<PathBuf>,
}

impl BuilderConfig {
    /// The usual settings: with the cache of the user's, `~/.cache/fermion/images`.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        let cache = std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        Self { home: home.into(), shared_cache: cache.map(|folder| folder.join("fermion/images")) }
    }
}

/// Builds official images on first need.
#[derive(Clone, Debug)]
pub struct Builder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    recipes: Recipes,
    store: Store,
    cache: Option<Store>,
    work: PathBuf,
    logs: PathBuf,
    cri: Cri,
    slots: Semaphore,
    /// The builds under way, by image.
    running: Mutex<HashMap<String, watch::Receiver<State>>>,
}

#[derive(Clone, Debug)]
enum State {
    Running(Progress),
    Done(Result<BuiltImage, Arc<Error>>),
}

impl Builder {
    /// A builder of the official images. `cri` is a client of the containerd that gets them.
    pub fn new(config: &BuilderConfig, cri: &Cri) -> Result<Self, Error> {
        Self::with_recipes(config, cri, Recipes::embedded()?)
    }

    /// A builder of other recipes.
    pub fn with_recipes(config: &BuilderConfig, cri: &Cri, recipes: Recipes) -> Result<Self, Error> {
        let root = config.home.join("images");
        let failed = |folder: &Path| {
            let folder = folder.to_owned();
            move |source| Error::Folder { folder, source }
        };
        let store = Store::open(&root).map_err(failed(&root))?;
        let cache = config.shared_cache.as_ref().and_then(|folder| {
            Store::open(folder)
                .inspect_err(|error| tracing::warn!(%error, folder = %folder.display(), "the shared cache of images cannot be used"))
                .ok()
        });
        let work = work_folder(&config.home);
        // What a server left that was killed in the middle of a build.
        kill_builds(&config.home).map_err(|error| failed(&work)(std::io::Error::other(error)))?;
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&work)(error)),
            _ => {}
        }
        let logs = config.home.join("logs/images");
        for folder in [&work, &logs] {
            fs::create_dir_all(folder).map_err(failed(folder))?;
        }
        let slots = Semaphore::new(BUILDS_AT_A_TIME);
        let shared = Shared { recipes, store, cache, work, logs, cri: cri.clone(), slots, running: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What can be built.
    pub fn recipes(&self) -> &[Recipe] {
        self.shared.recipes.all()
    }

    /// The short name of an official image, when `reference` is one's full name.
    pub fn is_official(&self, reference: &str) -> Option<&str> {
        let rest = reference.strip_prefix(PREFIX)?;
        let name = rest.strip_suffix(&format!(":{TAG}")).unwrap_or(rest);
        self.shared.recipes.get(name).map(Recipe::name)
    }

    /// The official images and whether they are built.
    pub fn list(&self) -> Vec<OfficialImage> {
        let shared = &self.shared;
        let describe = |recipe: &Recipe| OfficialImage {
            name: recipe.name().to_owned(),
            reference: reference_of(recipe.name()),
            description: recipe.description().to_owned(),
            built: shared.store.find(&shared.recipes.key(recipe)).map(|image| describe_built(recipe.name(), &image)),
        };
        shared.recipes.all().iter().map(describe).collect()
    }

    /// Makes an image be in containerd: at once if it is there, after seconds if it is in a cache,
    /// after minutes if it has to be built. However many ask at the same time, it is built once,
    /// and it is built to the end even if nobody waits any more. `progress` hears how far it is.
    pub async fn ensure(&self, name: &str, mut progress: impl FnMut(&Progress) + Send) -> Result<BuiltImage, Arc<Error>> {
        let mut state = self.join(name)?;
        loop {
            let now = state.borrow_and_update().clone();
            match now {
                State::Running(now) => progress(&now),
                State::Done(result) => return result,
            }
            if state.changed().await.is_err() {
                return Err(Arc::new(Error::BrokenOff { image: name.to_owned() }));
            }
        }
    }

    /// The build under way, or a new one.
    fn join(&self, name: &str) -> Result<watch::Receiver<State>, Arc<Error>> {
        let shared = &self.shared;
        if shared.recipes.get(name).is_none() {
            let known = shared.recipes.all().iter().map(|recipe| recipe.name().to_owned()).collect();
            return Err(Arc::new(Error::Unknown { name: name.to_owned(), known }));
        }
        let mut running = shared.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = running.get(name)
            && state.has_changed().is_ok()
        {
            return Ok(state.clone());
        }
        let (sender, receiver) = watch::channel(State::Running(Progress::default()));
        running.insert(name.to_owned(), receiver.clone());
        let shared = Arc::clone(shared);
        let name = name.to_owned();
        tokio::spawn(async move {
            let result = shared.make(&name, &sender).await.map_err(Arc::new);
            shared.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            sender.send_replace(State::Done(result));
        });
        Ok(receiver)
    }
}

impl Shared {
    async fn make(&self, name: &str, state: &watch::Sender<State>) -> Result<BuiltImage, Error> {
        // The images to go through, from the lowest up.
        let mut chain = Vec::new();
        let mut next = self.recipes.get(name);
        while let Some(recipe) = next {
            chain.insert(0, recipe);
            next = match recipe.foundation() {
                Foundation::Image(below) => self.recipes.get(below),
                Foundation::Debian(_) => None,
            };
        }
        // Nothing below an image that is there is needed.
        let mut image: Option<Image> = None;
        let mut to_build = chain.len();
        while image.is_none() && to_build > 0 {
            to_build -= 1;
            let recipe = chain[to_build];
            let key = self.recipes.key(recipe);
            image = self.look_up(&key, recipe.name()).await.map_err(file_error(recipe, "read", Path::new(&key)))?;
        }
        let to_build = &chain[if image.is_some() { to_build + 1 } else { 0 }..];
        // One more step, for containerd.
        let total = to_build.iter().map(|recipe| Step::of(recipe).len()).sum::<usize>() + 1;
        let mut reporter = Reporter { state, done: 0, total };
        for recipe in to_build {
            if let (Some(image), Foundation::Image(below)) = (&image, recipe.foundation()) {
                // A build starts from the foundation's files as containerd keeps them.
                self.hand_over(below, image).await?;
            }
            image = Some(self.build(recipe, image.as_ref(), &mut reporter).await?);
        }
        let Some(image) = image else {
            return Err(Error::BrokenOff { image: name.to_owned() });
        };
        reporter.report(reporter.total, "handing it to containerd", "");
        self.hand_over(name, &image).await?;
        Ok(describe_built(name, &image))
    }

    /// Finds an image in the home or in the cache, or builds it on its foundation.
    async fn build(&self, recipe: &Recipe, foundation: Option<&Image>, reporter: &mut Reporter<'_>) -> Result<Image, Error> {
        let key = self.recipes.key(recipe);
        let steps = Step::of(recipe);
        let _lock = self.lock(&key).await.map_err(file_error(recipe, "lock", Path::new(&key)))?;
        if let Some(image) = self.look_up(&key, recipe.name()).await.map_err(file_error(recipe, "read", Path::new(&key)))? {
            reporter.done += steps.len();
            return Ok(image);
        }
        let _slot = self.slots.acquire().await.map_err(|_| Error::BrokenOff { image: recipe.name().to_owned() })?;
        let folder = WorkFolder::new(&self.work, recipe.name()).map_err(file_error(recipe, "create", &self.work))?;
        let log = self.logs.join(format!("{}.log", recipe.name()));
        let build = Build { recipe, foundation, containerd: self.cri.socket(), store: &self.store, folder: &folder.path, log: &log };
        tracing::info!(image = recipe.name(), "building an official image");
        let before = reporter.done;
        let image = build
            .run(|step, detail| {
                let number = steps.iter().position(|known| *known == step).unwrap_or_default();
                reporter.report(before + number + 1, &format!("{}: {}", recipe.name(), step.message()), detail);
            })
            .await?;
        reporter.done = before + steps.len();
        self.store.record_image(&key, recipe.name(), &image).map_err(file_error(recipe, "write", Path::new(&key)))?;
        self.share(key, recipe.name()).await;
        Ok(image)
    }

    /// Puts a new image into the shared cache, and makes room. The image is there in any case.
    async fn share(&self, key: String, name: &str) {
        let (store, cache, name) = (self.store.clone(), self.cache.clone(), name.to_owned());
        let shared = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let now = jiff::Timestamp::now();
            store.prune(now)?;
            if let Some(cache) = cache {
                cache.take_over(&store, &key, &name)?;
                cache.prune(now)?;
            }
            Ok(())
        });
        if let Err(error) = shared.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(%error, "an image could not be put into the shared cache; another home will build it again");
        }
    }

    /// Keeps every other builder, in this and in other processes, from building the same.
    async fn lock(&self, key: &str) -> std::io::Result<File> {
        let (store, key) = (self.cache.as_ref().unwrap_or(&self.store).clone(), key.to_owned());
        tokio::task::spawn_blocking(move || store.lock(&key)).await.map_err(std::io::Error::other)?
    }

    async fn look_up(&self, key: &str, name: &str) -> std::io::Result<Option<Image>> {
        if let Some(image) = self.store.find(key) {
            return Ok(Some(image));
        }
        let Some(cache) = self.cache.clone() else {
            return Ok(None);
        };
        let (store, key, name) = (self.store.clone(), key.to_owned(), name.to_owned());
        tokio::task::spawn_blocking(move || store.take_over(&cache, &key, &name)).await.map_err(std::io::Error::other)?
    }

    async fn hand_over(&self, name: &str, image: &Image) -> Result<(), Error> {
        let reference = reference_of(name);
        let asked = import::is_present(&self.cri, &reference, image).await;
        if asked.map_err(|source| Error::Cri { image: name.to_owned(), source: Box::new(source) })? {
            return Ok(());
        }
        let store = self.store.clone();
        import::import(&self.cri, &reference, image.clone(), move |digest| Ok(Box::new(File::open(store.blob(digest)?)?)))
            .await
            .map_err(|source| Error::Import { image: name.to_owned(), source: Box::new(source) })
    }
}

fn file_error(recipe: &Recipe, action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let (image, path) = (recipe.name().to_owned(), path.to_owned());
    move |source| Error::File { image, action, path, source }
}

/// Tells those who wait how far a build is.
struct Reporter<'a> {
    state: &'a watch::Sender<State>,
    done: usize,
    total: usize,
}

impl Reporter<'_> {
    fn report(&self, step: usize, what: &str, detail: &str) {
        let detail: String = detail.trim().chars().take(DETAIL_CHARS_MAX).collect();
        let message = if detail.is_empty() { what.to_owned() } else { format!("{what} ({detail})") };
        self.state.send_replace(State::Running(Progress { step, total: self.total, message }));
    }
}

/// A folder for one build, removed with everything in it when the build ends.
struct WorkFolder {
    path: PathBuf,
}

impl WorkFolder {
    fn new(work: &Path, name: &str) -> std::io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = work.join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)?;
        Ok(Self { path })
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || {
            if let Err(error) = fs::remove_dir_all(&path) {
                tracing::warn!(%error, folder = %path.display(), "the folder of a build cannot be removed; the next start does it");
            }
        };
        // Hundreds of megabytes in many files: not on a thread that serves others.
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => drop(handle.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Ends what is left of a home's builds; answers how many there were.
pub(crate) fn kill_builds(home: &Path) -> Result<usize, crate::runtime::Error> {
    enter::kill_left(&work_folder(home))
}

fn work_folder(home: &Path) -> PathBuf {
    home.join("images/work")
}

fn reference_of(name: &str) -> String {
    format!("{PREFIX}{name}:{TAG}")
}

fn describe_built(name: &str, image: &Image) -> BuiltImage {
    BuiltImage { reference: reference_of(name), digest: image.digest(), size_bytes: image.size_bytes() }
}
