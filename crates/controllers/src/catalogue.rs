//! Makes the AcceleratorModels that the platform knows, once. What an administrator changed stays as
//! it is.

use std::collections::BTreeSet;
use std::time::Duration;

use fermion_api::compute::AcceleratorModel;
use fermion_api::compute::accelerator_model::catalogue;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};

use crate::Shutdown;
use crate::error::{Error, chain, describe};

/// Wait before the models are made again when the API is not ready.
const RETRY: Duration = Duration::from_secs(1);
/// How many requests are under way at the same time.
const REQUESTS_AT_ONCE: usize = 16;

/// Makes what is missing, then waits for shutdown.
pub(crate) async fn run(client: Client, shutdown: Shutdown) {
    let made = async {
        while let Err(error) = seed(&client).await {
            tracing::warn!(error = chain(&error), "cannot make the models of accelerators; trying again");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        () = shutdown.requested() => return,
        () = made => {}
    }
    shutdown.requested().await;
}

async fn seed(client: &Client) -> Result<(), Error> {
    let api: Api<AcceleratorModel> = Api::all(client.clone());
    let found = api.list(&ListParams::default()).await.map_err(Error::api("list", "the models of accelerators"))?;
    let found: BTreeSet<String> = found.items.iter().map(ResourceExt::name_any).collect();
    let missing = catalogue().into_iter().filter(|model| !found.contains(&model.name_any()));
    let make = |model: AcceleratorModel| {
        let api = api.clone();
        async move {
            match api.create(&PostParams::default(), &model).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
                other => other.map(drop).map_err(Error::api("create", describe(&model))),
            }
        }
    };
    futures::stream::iter(missing).map(make).buffer_unordered(REQUESTS_AT_ONCE).try_collect().await
}
