//! The connection that invalidations come over.
//!
//! It is one of its own, in RESP3: there what was published is handed on, in the order in which it
//! was read, before the answer that Redis gave after it. A connection that scripts go over too
//! would get what its own scripts publish after their answers.

use super::{
    keys::Invalidated,
    tier::Tier,
    wire::{Wire, pause},
};
use crate::{clock::Time, rng::Dice};
use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value,
};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};

/// Returns a client of the server that speaks RESP3, in which invalidations are pushed.
pub(super) fn resp3(client: &Client) -> RedisResult<Client> {
    let info = client.get_connection_info().clone();
    let settings = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    Client::open(info.set_redis_settings(settings))
}

/// Hears of invalidations, for ever.
pub(super) async fn listen<V: Clone + Send + Sync + 'static>(
    tier: Arc<Tier<V>>,
    client: Client,
    channel: String,
    heartbeat: Duration,
) {
    let dice = Dice::default();
    let mut failures = 0;
    loop {
        let began = Time::now();
        let mut epoch = None;
        // What went wrong does not matter: the store's own connection tells.
        let Err(_) = attend(&tier, &client, &channel, heartbeat, &mut epoch).await;
        match epoch {
            None => failures += 1,
            Some(epoch) => {
                tier.end(epoch);
                failures = 0;
            }
        }
        sleep_until(began.after(pause(failures, &dice)).to_instant()).await;
    }
}

/// Holds on to one connection until it is lost, and tells its epoch once it has one.
async fn attend<V: Clone + Send + Sync + 'static>(
    tier: &Arc<Tier<V>>,
    client: &Client,
    channel: &str,
    heartbeat: Duration,
    epoch: &mut Option<u64>,
) -> RedisResult<Infallible> {
    let lost = Arc::new(Notify::new());
    let hear = {
        let (tier, lost) = (Arc::clone(tier), Arc::clone(&lost));
        move |push: PushInfo| {
            match push.kind {
                PushKind::Message => forget(&tier, &push.data),
                PushKind::Disconnection => lost.notify_one(),
                _ => {}
            }
            Ok::<_, Infallible>(())
        }
    };
    let config = AsyncConnectionConfig::new().set_push_sender(hear);
    let mut wire = Wire::dial(client, config).await?;
    wire.connection.subscribe(channel).await?;
    *epoch = Some(tier.begin(&wire.run));
    loop {
        let sent = Time::now();
        if wire.beat().await? != wire.run {
            return Err((ErrorKind::Client, "it is another run now").into());
        }
        tier.extend(sent.after(heartbeat));
        tokio::select! {
            () = sleep(heartbeat / 3) => {}
            () = lost.notified() => return Err((ErrorKind::Io, "disconnected").into()),
        }
    }
}

/// Forgets what a message names, which is the channel and what was said.
fn forget<V: Clone>(tier: &Tier<V>, message: &[Value]) {
    let said = match message {
        [_, Value::BulkString(said)] => Invalidated::read(said),
        _ => None,
    };
    match said {
        Some(what) => tier.forget(what),
        // A later version of this crate may say what we do not know: better forget too much.
        None => tier.forget_all(),
    }
}
