//! Questions to the API server: so many at a time, and none for ever.

use std::time::Duration;

use tokio::{sync::Semaphore, time::timeout};

use super::answer::Refused;

/// At a time; others wait.
const PERMITS: usize = 8;
/// Waiting and the answer take no longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Those of one kind.
pub(super) struct Questions(Semaphore);

impl Default for Questions {
    fn default() -> Self {
        Self(Semaphore::new(PERMITS))
    }
}

impl Questions {
    /// Has `what` answered.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        question: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Refused> {
        let failed = |why: String| Refused::Cluster { what, why };
        let answer = async {
            let _permit = self.0.acquire().await.map_err(|error| failed(error.to_string()))?;
            question.await.map_err(|error| failed(error.to_string()))
        };
        timeout(TIMEOUT, answer).await.map_err(|_| failed(format!("no answer in {TIMEOUT:?}")))?
    }
}
