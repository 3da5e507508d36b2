//! Image objects of the official images: what can be chosen, whether it is there, and how far
//! its build is.

use std::time::{Duration, Instant};

use fermion_api::assets::image::{Image, ImageKind, ImageSpec, ImageStatus, Phase};
use fermion_api::conditions;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::mpsc;

use crate::image::{Builder, BuiltImage};
use crate::official::{ImageError, ImageProvider, Progress};

/// Least time between two writes of a build's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a status is written anew when others write at the same time.
const WRITES_MAX: u32 = 5;
/// Progress not yet written; older news gives way to newer.
const PROGRESS_QUEUE: usize = 64;

/// Makes official images on first need and keeps their Image objects true.
#[derive(Clone)]
pub struct OfficialImages {
    builder: Builder,
    client: Client,
}

impl OfficialImages {
    pub fn new(builder: Builder, client: Client) -> Self {
        Self { builder, client }
    }

    /// Makes the Image object of every recipe and writes what is there already.
    ///
    /// # Errors
    /// When the API refuses.
    pub async fn publish(&self) -> Result<(), kube::Error> {
        let images: Api<Image> = Api::all(self.client.clone());
        for official in self.builder.list() {
            let spec = ImageSpec {
                reference: official.reference.clone(),
                kind: ImageKind::Official,
                description: Some(official.description.clone()),
            };
            match images.get_opt(&official.name).await? {
                Some(image) if image.spec == spec => {}
                Some(_) => {
                    let patch = serde_json::json!({"spec": spec});
                    images.patch(&official.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                }
                None => {
                    images.create(&PostParams::default(), &Image::new(&official.name, spec)).await?;
                }
            }
            let status = match &official.built {
                Some(built) => present(built),
                None => ImageStatus { phase: Phase::Absent, ..ImageStatus::default() },
            };
            self.write(&official.name, status).await?;
        }
        Ok(())
    }

    /// Writes a status; when somebody else writes at the same time, anew on what they wrote.
    async fn write(&self, name: &str, status: ImageStatus) -> Result<(), kube::Error> {
        let mut tries = 1;
        loop {
            match self.write_once(name, status.clone()).await {
                Err(kube::Error::Api(refused)) if refused.code == 409 && tries < WRITES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    async fn write_once(&self, name: &str, mut status: ImageStatus) -> Result<(), kube::Error> {
        let images: Api<Image> = Api::all(self.client.clone());
        let image = images.get(name).await?;
        let before = image.status.clone().unwrap_or_default();
        status.observed_generation = image.metadata.generation;
        status.conditions.clone_from(&before.conditions);
        let (holds, reason, message) = match status.phase {
            Phase::Present => (true, "Present", "The image is on the node".to_owned()),
            Phase::Absent => (false, "NotBuilt", "It is built when a pod first needs it".to_owned()),
            Phase::Building => (false, "Building", status.progress.clone().unwrap_or_default()),
            Phase::Failed => (false, "BuildFailed", status.progress.take().unwrap_or_default()),
        };
        conditions::set(&mut status.conditions, "Present", holds, reason, message, status.observed_generation, Timestamp::now());
        if status.built_at.is_none() {
            status.built_at = if status.digest == before.digest { before.built_at.clone() } else { Some(Time(Timestamp::now())) };
        }
        if status == before {
            return Ok(());
        }
        // Fields that are gone must be taken away too, which a merge patch does not do.
        let mut fresh = image;
        fresh.status = Some(status);
        images.replace_status(&fresh.name_any(), &PostParams::default(), &fresh).await?;
        Ok(())
    }

    async fn write_or_log(&self, name: &str, status: ImageStatus) {
        if let Err(error) = self.write(name, status).await {
            tracing::warn!(image = name, %error, "the state of an image could not be written; its next change tries again");
        }
    }

    async fn make(&self, name: &str, progress: Progress) -> Result<(), ImageError> {
        let (news, mut heard) = mpsc::channel::<String>(PROGRESS_QUEUE);
        let reporter = {
            let (this, name) = (self.clone(), name.to_owned());
            tokio::spawn(async move {
                let mut written: Option<Instant> = None;
                while let Some(text) = heard.recv().await {
                    if written.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL) {
                        let status = ImageStatus { phase: Phase::Building, progress: Some(text), ..ImageStatus::default() };
                        this.write_or_log(&name, status).await;
                        written = Some(Instant::now());
                    }
                }
            })
        };
        let built = self
            .builder
            .ensure(name, |now| {
                // Before its steps are known a build waits for its turn.
                if now.total == 0 {
                    return;
                }
                let text = format!("step {} of {}: {}", now.step, now.total, now.message);
                progress(&text);
                // When the queue is full the newest are dropped; more will come.
                let _ = news.try_send(text);
            })
            .await;
        drop(news);
        if let Err(error) = reporter.await {
            tracing::error!(%error, "the reporter of an image's progress failed");
        }
        match built {
            Ok(built) => {
                self.write_or_log(name, present(&built)).await;
                Ok(())
            }
            Err(error) => {
                let mut message = error.to_string();
                let mut source = std::error::Error::source(&*error);
                while let Some(cause) = source {
                    message = format!("{message}: {cause}");
                    source = cause.source();
                }
                let status = ImageStatus { phase: Phase::Failed, progress: Some(message.clone()), ..ImageStatus::default() };
                self.write_or_log(name, status).await;
                Err(ImageError { message, retry: true })
            }
        }
    }
}

fn present(built: &BuiltImage) -> ImageStatus {
    let bytes = i64::try_from(built.size_bytes).unwrap_or(i64::MAX);
    ImageStatus {
        phase: Phase::Present,
        digest: Some(built.digest.clone()),
        size_bytes: Some(bytes),
        size: Some(fermion_api::quantity::format("storage", i128::from(bytes) * 1000)),
        ..ImageStatus::default()
    }
}

impl ImageProvider for OfficialImages {
    fn ensure<'a>(&'a self, reference: &'a str, progress: Progress) -> BoxFuture<'a, Result<(), ImageError>> {
        async move {
            match self.builder.is_official(reference) {
                Some(name) => self.make(name, progress).await,
                None => {
                    let names: Vec<_> = self.builder.recipes().iter().map(crate::image::Recipe::name).collect();
                    Err(ImageError {
                        message: format!("{reference} is not an official image; there are: {}", names.join(", ")),
                        retry: false,
                    })
                }
            }
        }
        .boxed()
    }
}
