//! What the API server says of who asks: whose a token is, and what a user may. Answers are kept as a kubelet keeps them.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use tracing::warn;

use super::{access::Action, answer::Refused, cache::Cache, questions::Questions};
use crate::{planning::Pace, said::Said};

/// A kubelet's `authentication.webhook.cacheTTL`, `authorization.webhook.cacheAuthorizedTTL` and `cacheUnauthorizedTTL`.
const TOKEN_FOR: Duration = Duration::from_secs(120);
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);

/// Tokens that are not known yet: so many at once, and then one in this time. Whoever reaches the port can show any.
const TOKENS: Pace = Pace::new(100, Duration::from_millis(100));
/// Bytes of a token: those of service accounts have 1 to 2 KiB.
const TOKEN_MAX: usize = 16 * 1024;

/// Asks, and remembers.
pub(super) struct Reviews {
    client: Client,
    questions: Questions,
    users: Cache<Option<UserInfo>>,
    allowed: Cache<bool>,
    tokens: Mutex<Pace>,
    said: Mutex<Said>,
}

impl Reviews {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            questions: Questions::default(),
            users: Cache::default(),
            allowed: Cache::default(),
            tokens: Mutex::new(TOKENS),
            said: Mutex::default(),
        }
    }

    /// Whose token it is; none: nobody's.
    pub(super) async fn user(&self, token: &str) -> Result<Option<UserInfo>, Refused> {
        if token.is_empty() || token.len() > TOKEN_MAX {
            return Ok(None);
        }
        if let Some(user) = self.users.get(token, Instant::now()) {
            return Ok(user);
        }
        if !self.tokens.lock().unwrap_or_else(PoisonError::into_inner).try_take(Instant::now()) {
            return Err(Refused::TooMany("too many tokens come that are not known yet: try it again".to_owned()));
        }
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let asked = self.ask("have a token reviewed", review).await;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let review = match asked {
            Ok(review) => review,
            Err(error) => {
                // Why is for who runs modulet, and not for somebody whose name is not known.
                if said.is_new(&error.to_string()) {
                    warn!(%error, "who shows a token to the kubelet API cannot be known");
                }
                return Err(Refused::Unauthorized);
            }
        };
        said.clear();
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|user| status.authenticated == Some(true) && user.username.is_some());
        self.users.put(token.to_owned(), user.clone(), Instant::now(), TOKEN_FOR);
        Ok(user)
    }

    /// Whether a user may do that to this Node; empty: to all Nodes.
    pub(super) async fn allows(&self, user: &UserInfo, action: Action, node: &str) -> Result<bool, Refused> {
        let attributes = ResourceAttributes {
            verb: Some(action.verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(action.subresource.to_owned()),
            name: Some(node.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let what = "have an access reviewed";
        let asked = serde_json::to_string(&spec).map_err(|error| Refused::Cluster { what, why: error.to_string() })?;
        if let Some(allowed) = self.allowed.get(&asked, Instant::now()) {
            return Ok(allowed);
        }
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let allowed = self.ask(what, review).await?.status.is_some_and(|status| status.allowed);
        let good_for = if allowed { ALLOWED_FOR } else { DENIED_FOR };
        self.allowed.put(asked, allowed, Instant::now(), good_for);
        Ok(allowed)
    }

    async fn ask<R>(&self, what: &'static str, review: R) -> Result<R, Refused>
    where
        R: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let api = Api::<R>::all(self.client.clone());
        self.questions.ask(what, api.create(&PostParams::default(), &review)).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{
        body::Body,
        http::{Request, Response},
    };

    use super::*;

    #[tokio::test]
    async fn whoever_makes_tokens_up_has_so_many_reviewed_and_those_that_are_known_are_served_on() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let reviewer = tower::service_fn(move |_: Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let review = r#"{"spec":{"token":""},"status":{"authenticated":true,"user":{"username":"somebody"}}}"#;
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Body::from(review))))
        });
        let reviews = Reviews::new(Client::new(reviewer, "default"));
        let began = Instant::now();
        let mut reviewed = 0;
        let refused = loop {
            match reviews.user(&format!("made-up-{reviewed}")).await {
                Ok(user) => assert_eq!(user.unwrap().username.as_deref(), Some("somebody")),
                Err(refused) => break refused,
            }
            reviewed += 1;
        };
        assert_eq!(refused.status(), 429);
        let at_most = 100 + usize::try_from(began.elapsed().as_millis() / 100).unwrap();
        assert!((100..=at_most).contains(&reviewed), "{reviewed}, and there may be {at_most}");
        assert_eq!(asked.load(Ordering::Relaxed), reviewed, "who is refused is not asked about");
        for known in 0..reviewed {
            assert!(reviews.user(&format!("made-up-{known}")).await.unwrap().is_some());
        }
        let nobody = [String::new(), "x".repeat(TOKEN_MAX + 1)];
        for token in nobody {
            assert_eq!(reviews.user(&token).await, Ok(None));
        }
        assert_eq!(asked.load(Ordering::Relaxed), reviewed);
    }
}
