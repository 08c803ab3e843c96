use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::auth::Learned;
use crate::client::House;
use crate::config::Config;

fn exhibit(url: &str) -> Arc<Exhibit> {
    let config = Config::for_url(url).unwrap();
    Exhibit::new(Front::new(House::new(config).unwrap()))
}

/// With a pool whose server nobody can reach.
fn with_pool() -> Arc<Exhibit> {
    let exhibit = exhibit("postgres://bob:hunter2@127.0.0.1:1/app?pool_size=7");
    let house = exhibit.front.house();
    let database = house.config.database("app").unwrap();
    let pool = exhibit.front.pool(&house, &database, "bob", Learned::default());
    pool.record_login(Duration::from_millis(3));
    pool.record_login(Duration::from_secs(1000));
    exhibit
}

async fn get(exhibit: &Exhibit, method: &Method, path: &str) -> (StatusCode, String) {
    let response = http::respond(method, path, exhibit);
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// Samples by name and labels, and the type of each family.
fn parsed(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut samples, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(
                types.insert(name.to_owned(), kind.to_owned()),
                None,
                "{name} twice"
            );
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().expect(line);
            let before = samples.insert(name.to_owned(), value.to_owned());
            assert_eq!(before, None, "{name} twice");
        }
    }
    (samples, types)
}

#[tokio::test]
async fn a_scrape_reads_back() {
    let exhibit = with_pool();
    let (status, text) = get(&exhibit, &Method::GET, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    let (samples, types) = parsed(&text);
    let pool = "database=\"app\",user=\"bob\"";
    assert_eq!(samples[&format!("howdah_pool_size{{{pool}}}")], "7");
    assert_eq!(
        samples[&format!("howdah_pool_clients{{{pool},state=\"waiting\"}}")],
        "0"
    );
    assert_eq!(samples["howdah_farewells_total{reason=\"vanished\"}"], "0");
    let bucket =
        |bound: &str| samples[&format!("howdah_pool_login_seconds_bucket{{{pool},le=\"{bound}\"}}")].as_str();
    assert_eq!(
        ["0.0025", "0.005", "100", "+Inf"].map(bucket),
        ["0", "1", "1", "2"]
    );
    assert_eq!(
        samples[&format!("howdah_pool_login_seconds_count{{{pool}}}")],
        "2"
    );
    assert_eq!(
        samples[&format!("howdah_pool_login_seconds_sum{{{pool}}}")],
        "1000.003"
    );
    for (name, kind) in types {
        assert!(name.starts_with("howdah_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
    assert!(!text.contains("hunter2"));
}

#[tokio::test]
async fn every_metric_is_documented_and_nothing_else() {
    let document = include_str!("../../docs/metrics.md");
    let row = |line: &str| {
        let name = line.strip_prefix("| `howdah_")?.split('`').next()?;
        let name = name.split('{').next()?;
        Some(format!("howdah_{name}"))
    };
    let documented: BTreeSet<String> = document.lines().filter_map(row).collect();
    let exported: BTreeSet<String> = collect::families(&with_pool())
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    assert_eq!(documented, exported);
    // And the tables of counterparts speak of nothing else.
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    for word in document
        .split(|letter| !is_letter(letter))
        .filter(|word| word.starts_with("howdah_"))
    {
        let family = ["_sum", "_count", "_bucket"]
            .iter()
            .find_map(|part| word.strip_suffix(part))
            .unwrap_or(word);
        assert!(exported.contains(family), "{word}");
    }
    for family in collect::families(&with_pool()) {
        let help = family.help();
        assert!(help.ends_with('.'), "{}", family.name());
        assert!(document.contains(help.trim_end_matches('.')), "{help}");
    }
}

#[tokio::test]
async fn paths_and_methods_are_few() {
    let exhibit = with_pool();
    let status = async |method, path| get(&exhibit, &method, path).await.0.as_u16();
    assert_eq!(status(Method::GET, "/").await, 200);
    assert_eq!(status(Method::HEAD, "/healthz").await, 200);
    assert_eq!(status(Method::GET, "/metrics/").await, 404);
    assert_eq!(status(Method::POST, "/nowhere").await, 404);
    assert_eq!(status(Method::POST, "/metrics").await, 405);
    assert!(
        get(&exhibit, &Method::GET, "/")
            .await
            .1
            .contains("<td class=n>bob")
    );
}

#[tokio::test]
async fn readiness_waits_for_pools_that_can_be_filled() {
    let ready = async |exhibit: &Exhibit| get(exhibit, &Method::GET, "/readyz").await;
    let plain = exhibit("postgres://bob:x@127.0.0.1:1/app");
    assert_eq!(ready(&plain).await, (StatusCode::OK, "ok\n".to_owned()));
    plain.set_draining();
    let (status, reason) = ready(&plain).await;
    assert_eq!((status.as_u16(), reason.as_str()), (503, "shutting down\n"));

    let warm = exhibit("postgres://bob:x@127.0.0.1:1/app?min_pool_size=2");
    let (status, reason) = ready(&warm).await;
    assert_eq!(
        (status.as_u16(), reason.as_str()),
        (503, "pool app/bob has not been opened yet\n")
    );
    let house = warm.front.house();
    let database = house.config.database("app").unwrap();
    warm.front.pool(&house, &database, "bob", Learned::default());
    let (status, reason) = ready(&warm).await;
    assert_eq!(status.as_u16(), 503);
    assert!(reason.starts_with("pool app/bob has 0 of 2 servers"), "{reason}");
}

#[test]
fn pools_are_filled_for_the_forced_user_or_for_all_users() {
    let mut config = Config::for_url("postgres://bob:x@h/app?min_pool_size=2").unwrap();
    let keys = |config: &Config| {
        prefilled(config)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys(&config), ["app/bob"]);
    config
        .users
        .insert("eve".to_owned(), crate::config::User::default());
    assert_eq!(keys(&config), ["app/bob"]);
    config.databases.get_mut("app").unwrap().user = None;
    assert_eq!(keys(&config), ["app/bob", "app/eve"]);
    config.databases.get_mut("app").unwrap().overrides.min_pool_size = None;
    assert!(keys(&config).is_empty());
}

#[tokio::test]
async fn the_server_answers_over_a_socket_and_leaves_slow_peers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(serve(listener, with_pool()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"),
        "{answer}"
    );

    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /healthz HT").await.unwrap();
    tokio::time::pause();
    let mut rest = Vec::new();
    let gone = tokio::time::timeout(Duration::from_secs(300), slow.read_to_end(&mut rest)).await;
    assert!(gone.is_ok(), "a peer that does not finish its request is left");
    server.abort();
}
