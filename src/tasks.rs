//! Tasks that must not end. Where one does, the process is to end as well, so that Kubernetes starts it anew: half a
//! process that says that it is well is worse than none.

use std::{borrow::Cow, collections::HashMap, fmt, io, thread};

use tokio::{
    sync::oneshot,
    task::{Id, JoinError, JoinSet},
};
use tracing::error;

/// How a task came to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct TaskEnd {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it said when it panicked.
    pub panic: Option<String>,
}

impl fmt::Display for TaskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.panic {
            Some(message) => write!(f, "the task {:?} panicked: {message}", self.name),
            None => write!(f, "the task {:?} ended, which it must not", self.name),
        }
    }
}

/// All of them, by their names. They end with it.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<()>,
    names: HashMap<Id, Cow<'static, str>>,
    /// For tests, which break them off.
    #[cfg(test)]
    handles: HashMap<Id, tokio::task::AbortHandle>,
}

impl Tasks {
    /// Starts one.
    pub fn spawn(&mut self, name: impl Into<Cow<'static, str>>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), name.into());
        #[cfg(test)]
        self.handles.insert(handle.id(), handle);
    }

    /// Starts one on a thread and a runtime of its own, of which nothing is left when the others end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn spawn_thread<T: Future<Output = ()>>(
        &mut self,
        name: &'static str,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<()> {
        let (until, stop) = oneshot::channel::<()>();
        let (ends, end) = oneshot::channel::<()>();
        let run = move || {
            // Dropped at the end, however it comes: that is how it is noticed.
            let _ends = ends;
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return error!(%error, name, "a thread has no runtime"),
            };
            runtime.block_on(async {
                tokio::select! {
                    _ = stop => {}
                    () = task() => {}
                }
            });
            runtime.shutdown_background();
        };
        thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.spawn(name, async move {
            let _until = until;
            let _ = end.await;
        });
        Ok(())
    }

    /// Waits until one ends, which none should.
    pub async fn end(&mut self) -> TaskEnd {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => TaskEnd { name: self.name(id), panic: None },
            Some(Err(error)) => TaskEnd { name: self.name(error.id()), panic: panic_of(error) },
            None => std::future::pending().await,
        }
    }

    /// Waits until the one with this name ends, now that it may. Others may end before it, but none by a panic.
    ///
    /// # Errors
    /// One panicked.
    pub async fn end_of(&mut self, name: &str) -> Result<(), TaskEnd> {
        while self.names.values().any(|running| running == name) {
            let end = self.end().await;
            if end.panic.is_some() {
                return Err(end);
            }
        }
        Ok(())
    }

    fn name(&mut self, id: Id) -> Cow<'static, str> {
        self.names.remove(&id).unwrap_or_default()
    }

    /// The names of all that run.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.names.values().map(ToString::to_string).collect();
        names.sort();
        names
    }

    /// Ends all with this name.
    #[cfg(test)]
    pub(crate) fn break_off(&mut self, name: &str) {
        let ids: Vec<_> = self.names.iter().filter(|(_, n)| *n == name).map(|(id, _)| *id).collect();
        let handles = ids.into_iter().filter_map(|id| self.handles.get(&id));
        handles.for_each(tokio::task::AbortHandle::abort);
    }
}

fn panic_of(error: JoinError) -> Option<String> {
    let payload = error.try_into_panic().ok()?;
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Some(text.unwrap_or("it does not say why").to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn with_others() -> Tasks {
        let mut tasks = Tasks::default();
        tasks.spawn("one that lives", pending());
        tasks.spawn(format!("number {}", 2), pending());
        tasks
    }

    #[tokio::test]
    async fn one_that_ends_is_told_by_its_name() {
        let mut tasks = with_others();
        tasks.spawn("short", ready(()));
        assert_eq!(tasks.end().await.to_string(), "the task \"short\" ended, which it must not");
    }

    #[tokio::test]
    async fn one_that_panics_is_told_with_what_it_said() {
        let mut tasks = with_others();
        tasks.spawn("one that counts", async { panic!("{} is too many", 3) });
        assert_eq!(tasks.end().await.to_string(), "the task \"one that counts\" panicked: 3 is too many");
        tasks.spawn("one that is quiet", async { std::panic::panic_any(7) });
        assert_eq!(tasks.end().await.panic.unwrap(), "it does not say why");
    }

    #[tokio::test]
    async fn what_follows_from_an_end_is_not_told_instead_of_it() {
        let (mut tasks, (sender, mut receiver)) = (Tasks::default(), tokio::sync::mpsc::channel::<()>(1));
        tasks.spawn("later", async move { assert_eq!(receiver.recv().await, None) });
        tasks.spawn("first", async move { drop(sender) });
        assert_eq!(tasks.end().await.name, "first");
    }

    #[tokio::test]
    async fn one_that_may_end_is_waited_for_and_the_others_are_let_go_but_for_panics() {
        let mut tasks = with_others();
        tasks.spawn("before", ready(()));
        tasks.spawn("last", tokio::task::yield_now());
        assert_eq!(tasks.end_of("last").await, Ok(()));
        assert_eq!(tasks.end_of("unknown").await, Ok(()));

        tasks.spawn("before", async { panic!("oh") });
        tasks.spawn("last", pending());
        let end = tasks.end_of("last").await.unwrap_err();
        assert_eq!((&*end.name, end.panic.as_deref()), ("before", Some("oh")));
    }

    #[tokio::test]
    async fn all_end_with_it() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<()>(1);
        let mut tasks = Tasks::default();
        tasks.spawn("holder", async move {
            let _held = sender;
            pending::<()>().await;
        });
        tokio::task::yield_now().await;
        drop(tasks);
        assert_eq!(receiver.recv().await, None);
    }
}
