//! One instance, and three behind nginx.

use crate::{
    chart,
    figures::{Figures, ms},
    load::{Ask, closed},
    servers::{Nginx, free_port},
    stage::{Failed, Service, Stage},
    story::{Story, Table},
};
use tokio::task::block_in_place;

/// The write-up's: requests per second, mean milliseconds.
const ONE: (f64, f64) = (1337.0, 7.48);
const THREE: (f64, f64) = (2179.0, 4.59);
/// Its figures multiply to ten requests in flight.
const CONNECTIONS: usize = 10;

pub(crate) async fn run(stage: &mut Stage, story: &mut Story) -> Result<(), Failed> {
    let bare = {
        let service = stage.data_service(&[("RESILIENCE", "off")])?;
        measure(stage, &service.url).await
    };
    let three: Vec<Service> = (0..3)
        .map(|_| stage.data_service(&[]))
        .collect::<Result<_, _>>()?;
    let first = three.first().ok_or("no service")?;
    let one = measure(stage, &first.url).await;
    let servers = three.iter().map(|service| {
        let address = service.url.trim_start_matches("http://");
        format!("server {address};")
    });
    let port = free_port()?;
    let sites = format!(
        "upstream data {{ {} keepalive 32; }}
server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://data; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}",
        servers.collect::<String>()
    );
    let nginx = block_in_place(|| Nginx::start(&sites))?;
    let behind = measure(stage, &format!("http://127.0.0.1:{port}")).await;
    drop(nginx);

    let mut table = Table::new(
        format!("GET /data (100 items), {CONNECTIONS} connections, closed loop"),
        &["", "req/s", "mean", "p50", "p99", "failed", "ratio to one"],
    );
    let theirs = |name: &str, (rate, mean): (f64, f64)| {
        let ratio = format!("{:.2}x", rate / ONE.0);
        let (rate, mean) = (format!("{rate:.0}"), format!("{mean} ms"));
        [
            name.to_owned(),
            rate,
            mean,
            "".into(),
            "".into(),
            "".into(),
            ratio,
        ]
    };
    table.row(theirs("write-up, one instance", ONE));
    table.row(theirs("write-up, three behind nginx", THREE));
    for (name, figures) in [
        ("one instance, RESILIENCE=off", &bare),
        ("one instance", &one),
        ("three behind nginx", &behind),
    ] {
        table.row([
            name.to_owned(),
            format!("{:.0}", figures.rate()),
            ms(figures.mean),
            ms(figures.p50()),
            ms(figures.p99()),
            (figures.count - figures.ok).to_string(),
            format!("{:.2}x", figures.rate() / one.rate()),
        ]);
    }
    story.tables.push(table);
    story.charts.push(chart::bars(
        "GET /data, requests per second",
        &[
            ("write-up, one instance", ONE.0),
            ("write-up, three behind nginx", THREE.0),
            ("ours, one, RESILIENCE=off", bare.rate()),
            ("ours, one instance", one.rate()),
            ("ours, three behind nginx", behind.rate()),
        ],
    )?);
    let failed = one.count - one.ok + behind.count - behind.ok;
    story.promise(
        "no request fails when all is well",
        format!("{failed} of {}", one.count + behind.count),
        failed == 0,
    );
    Ok(())
}

async fn measure(stage: &Stage, url: &str) -> Figures {
    let ask = |url: &str| {
        let url = format!("{url}/data");
        move |_| Ask {
            series: "list",
            url: url.clone(),
        }
    };
    closed(&stage.client, CONNECTIONS, 200, ask(url)).await;
    let requests = stage.scaled(20_000);
    let samples = closed(&stage.client, CONNECTIONS, requests, ask(url)).await;
    Figures::of(&samples)
}
