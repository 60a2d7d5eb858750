//! Four instances behind nginx.

use crate::{
    load::{Ask, closed},
    process::Process,
    stage::{Failed, Stage},
};
use std::fs;

pub(crate) const INSTANCES: usize = 4;

/// They are ended with the process that started them.
pub(crate) struct Fleet {
    process: Process,
    pub(crate) nginx: String,
    pub(crate) instances: Vec<String>,
}

impl Fleet {
    pub(crate) fn start(stage: &mut Stage) -> Result<Self, Failed> {
        let (database, redis) = (stage.postgres.url(), stage.redis.url());
        let settings = [
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", redis.as_str()),
            // Free ports: the usual ones may be in use.
            ("PORT_BASE", "0"),
            ("NGINX_ADDR", "127.0.0.1:0"),
            ("LOG_REQUESTS", "false"),
        ];
        let count = INSTANCES.to_string();
        let arguments = ["--instances", &count, "--nginx"];
        let mut process = Process::start("tasks", &arguments, &settings)?;
        stage.commands.push(process.command.clone());
        let instances = (0..INSTANCES).map(|_| process.says("] listening on "));
        let instances = instances.collect::<Result<_, _>>()?;
        let nginx = process.says("nginx listening on ")?;
        Ok(Self {
            process,
            nginx,
            instances,
        })
    }

    /// A user, a category and two hundred tasks.
    pub(crate) async fn fill(&self, stage: &Stage) -> Result<(), Failed> {
        let made = async |what: &str, json: String| {
            let answer = stage
                .client
                .post(&format!("{}/{what}", self.nginx), json)
                .await;
            match answer {
                Some(answer) if answer.status == 201 => Ok(()),
                other => Err(format!("POST /{what} was answered with {other:?}")),
            }
        };
        made(
            "users",
            r#"{"name": "Ann", "email": "ann@example.org"}"#.into(),
        )
        .await?;
        made("categories", r#"{"name": "home"}"#.into()).await?;
        for n in 1..=200 {
            let task = format!(r#"{{"title": "task {n}", "user_id": 1, "category_id": 1}}"#);
            made("tasks", task).await?;
        }
        // What is measured next is not how long first connections take.
        let urls = self.instances.clone();
        let ask = move |n: usize| Ask {
            series: "warm-up",
            url: format!("{}/tasks/1", urls.get(n % INSTANCES).map_or("", |url| url)),
        };
        closed(&stage.client, 50, 400, ask).await;
        Ok(())
    }

    /// The process that answers under this name.
    pub(crate) fn id_of(&self, served_by: &str) -> Option<u32> {
        let mine = format!("LISTEN_ADDR={served_by}");
        let processes = fs::read_dir("/proc").ok()?.flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.find(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            *id != self.process.id() && variables.any(|variable| variable == mine.as_bytes())
        })
    }
}
