//! Questions to the API server: so many at a time, and none for ever.

use std::time::Duration;

use tokio::{sync::Semaphore, time::timeout};

use super::answer::Refused;

/// At a time; others wait.
const PERMITS: usize = 8;
/// Waiting and the answer take no longer.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

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
        let answer = async {
            let _permit = self.0.acquire().await;
            question.await
        };
        answered(WITHIN, answer).await.map_err(|why| Refused::Cluster { what, why })
    }
}

/// The answer, if it comes within this time; or why there is none.
pub(super) async fn answered<T>(
    within: Duration,
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, String> {
    let answer = timeout(within, question).await.map_err(|_| format!("no answer in {within:?}"))?;
    answer.map_err(|error| error.to_string())
}
