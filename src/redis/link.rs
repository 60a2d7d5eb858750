//! The store's connection, which comes back by itself.
//!
//! A task of its own connects, looks every half a second whether the other end is still there and
//! still the same, and connects again when it is not. So a call never waits for a connection: it
//! has one, or fails at once.

use super::wire::{Wire, pause};
use crate::{cache::StoreError, clock::Time, rng::Dice};
use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, ScriptInvocation,
    ServerErrorKind,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{sleep, sleep_until},
};

/// How often the other end is looked at: a server that went away and came back is noticed within
/// a second even if nobody called meanwhile.
const BEAT: Duration = Duration::from_millis(500);

/// Dropping it ends the task and closes the connection.
pub(super) struct Link {
    shared: Arc<LinkShared>,
    runtime: Handle,
    task: AbortHandle,
}

struct LinkShared {
    client: Client,
    state: RwLock<State>,
    /// A call has found the connection broken.
    broken: Notify,
}

#[derive(Clone)]
enum State {
    Up(Up),
    /// Why.
    Down(Arc<str>),
}

/// A connection, as one call uses it.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) wire: Wire,
    /// Which of the link's connections it is.
    serial: u64,
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
#[error("not connected to Redis: {0}")]
struct NotConnected(Arc<str>);

impl Link {
    pub(super) fn new(client: Client, runtime: Handle) -> Self {
        let shared = Arc::new(LinkShared {
            client,
            state: RwLock::new(State::Down("connecting".into())),
            broken: Notify::new(),
        });
        let task = runtime.spawn(keep(Arc::clone(&shared))).abort_handle();
        Self {
            shared,
            runtime,
            task,
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Returns the runtime that the store works on.
    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Returns the connection, or the error that there is none.
    pub(super) fn up(&self) -> Result<Up, StoreError> {
        match self.shared.state() {
            State::Up(up) => Ok(up),
            State::Down(why) => Err(StoreError::Unavailable(Box::new(NotConnected(why)))),
        }
    }

    /// Runs a script.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        up: Up,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, StoreError> {
        let Up { mut wire, serial } = up;
        script
            .invoke_async(&mut wire.connection)
            .await
            .map_err(|error| {
                if is_lost(&error) {
                    self.shared.lose(serial, &error);
                    self.shared.broken.notify_one();
                }
                StoreError::Unavailable(Box::new(error))
            })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
        // The task holds on to the connection until it is next polled.
        self.shared.set(State::Down("closed".into()));
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = f.debug_struct("Link");
        match self.shared.state() {
            State::Up(up) => link.field("run", &up.wire.run),
            State::Down(why) => link.field("down", &why),
        };
        link.finish_non_exhaustive()
    }
}

impl LinkShared {
    fn state(&self) -> State {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn set(&self, state: State) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    // Up => Down
    /// Takes a connection for lost, unless another one is up by now.
    fn lose(&self, serial: u64, why: &RedisError) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(&*state, State::Up(up) if up.serial == serial) {
            *state = State::Down(why.to_string().into());
        }
    }

    /// Holds on to one connection until it is lost.
    async fn watch(&self, mut up: Up) {
        loop {
            tokio::select! {
                () = self.broken.notified() => match self.state() {
                    State::Down(_) => return,
                    // It was an older one that somebody found broken.
                    State::Up(_) => continue,
                },
                () = sleep(BEAT) => {}
            }
            match up.wire.beat().await {
                Ok(run) if run == up.wire.run => {}
                Ok(run) => {
                    up.wire.run = run;
                    self.set(State::Up(up.clone()));
                }
                Err(why) => return self.lose(up.serial, &why),
            }
        }
    }
}

async fn keep(shared: Arc<LinkShared>) {
    let dice = Dice::default();
    let mut failures = 0;
    for serial in 0.. {
        let began = Time::now();
        match connect(&shared.client).await {
            Ok(wire) => {
                failures = 0;
                let up = Up { wire, serial };
                shared.set(State::Up(up.clone()));
                shared.watch(up).await;
            }
            Err(why) => {
                failures += 1;
                shared.set(State::Down(why.to_string().into()));
            }
        }
        // From its beginning: an attempt that hung has waited already.
        sleep_until(began.after(pause(failures, &dice)).to_instant()).await;
    }
}

async fn connect(client: &Client) -> Result<Wire, RedisError> {
    let mut wire = Wire::dial(client, AsyncConnectionConfig::new()).await?;
    wire.load_scripts().await?;
    Ok(wire)
}

/// Whether it takes another connection to do better.
fn is_lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        // A master that has become a replica.
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
