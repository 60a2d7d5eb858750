//! One connection, and who is at its other end.
//!
//! The other end is known by its **run**: which process it is, and which history of writes it
//! follows. After a restart or a failover Redis may hold what had been removed before; so what was
//! stored, or leased, in another run than this one counts for nothing.

use super::scripts::SCRIPTS;
use crate::rng::Dice;
use ::redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult, aio::MultiplexedConnection,
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long connecting may take, and asking who is there.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How long an answer is waited for at all: the cache gives up long before.
const ANSWER: Duration = Duration::from_secs(2);

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) connection: MultiplexedConnection,
    pub(super) run: Arc<str>,
}

impl Wire {
    /// Connects, and asks who is there.
    pub(super) async fn dial(client: &Client, config: AsyncConnectionConfig) -> RedisResult<Self> {
        let config = config
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(ANSWER));
        let dial = async {
            let mut connection = client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let run = identity(&mut connection).await?;
            Ok(Self { connection, run })
        };
        timeout(PATIENCE, dial)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    /// Brings the scripts over, so that no call has to.
    pub(super) async fn load_scripts(&mut self) -> RedisResult<()> {
        let mut load = ::redis::pipe();
        for text in &SCRIPTS.texts {
            load.cmd("SCRIPT").arg("LOAD").arg(text).ignore();
        }
        load.query_async(&mut self.connection).await
    }

    /// Asks again who is there, which shows too that somebody is.
    pub(super) async fn beat(&mut self) -> RedisResult<Arc<str>> {
        let identity = identity(&mut self.connection);
        timeout(PATIENCE, identity)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }
}

/// Returns the run at the other end.
async fn identity(connection: &mut MultiplexedConnection) -> RedisResult<Arc<str>> {
    let (server, replication): (String, String) = ::redis::pipe()
        .cmd("INFO")
        .arg("server")
        .cmd("INFO")
        .arg("replication")
        .query_async(connection)
        .await?;
    let field = |text: &str, name| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
    };
    if field(&replication, "role").as_deref() != Some("master") {
        // It lags, and takes no writes.
        return Err((ErrorKind::Client, "connected to a replica").into());
    }
    let run = field(&server, "run_id").zip(field(&replication, "master_replid"));
    let (process, history) = run.ok_or((ErrorKind::Client, "INFO does not tell the run"))?;
    // 64 random bits of each are enough, and every entry carries them.
    let half = |id: &str| id.chars().take(16).collect::<String>();
    Ok(format!("{}.{}", half(&process), half(&history)).into())
}

fn silent() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "Redis does not answer").into()
}

/// Returns how long after its beginning a failed attempt is to be followed by the next: soon at
/// first, then seldom; at random, so that a thousand instances do not come back at once.
pub(super) fn pause(failures: u32, dice: &Dice) -> Duration {
    let longest = Duration::from_millis(20 << failures.min(5)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + 0.5 * dice.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_second_and_no_further() {
        let dice = Dice::new(Some(7));
        for failures in 0..100 {
            let pause = pause(failures, &dice);
            assert!(pause >= Duration::from_millis(10), "{pause:?}");
            assert!(pause <= LONGEST_PAUSE, "{pause:?}");
        }
    }
}
