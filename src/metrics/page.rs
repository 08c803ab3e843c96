//! A page for people: how it goes, at a glance and without a script.

use std::fmt::Write as _;
use std::time::Duration;

use super::pools;
use super::{Exhibit, ready};

/// The page.
pub(super) fn html(exhibit: &Exhibit) -> String {
    let front = &exhibit.front;
    let house = front.house();
    let state = match ready::objection(exhibit) {
        Some(objection) => format!("not ready: {}", escaped(&objection)),
        None if front.is_all_paused() => "paused".to_owned(),
        None => "ready".to_owned(),
    };
    let uptime = Duration::from_secs(exhibit.started.elapsed().as_secs());
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh content=5><title>howdah</title>\n\
         <style>body{{font:15px sans-serif;margin:2em}}td,th{{padding:.2em .8em;text-align:right}}\
         td.n,th.n{{text-align:left}}tr:nth-child(even){{background:#8882}}</style>\n\
         <h1>howdah {}</h1>\n<p>{state}; up {}; {} clients, {} logging in; \
         <a href=/metrics>metrics</a></p>\n\
         <table><tr><th class=n>database<th class=n>user<th>clients<th>waiting<th>oldest wait<th>servers<th>active\
         <th>idle<th>size<th>transactions<th>queries<th class=n>\n",
        env!("CARGO_PKG_VERSION"),
        humantime::format_duration(uptime),
        front.clients.len(),
        front.clients.logging_in(),
    );
    for view in pools::views(front, &house.config) {
        let pool = &view.pool;
        let remark = match &pool.last_error {
            Some(error) => escaped(&error.message),
            None if pool.is_paused => "paused".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(
            page,
            "<tr><td class=n>{}<td class=n>{}<td>{}<td>{}<td>{:.1} s<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=n>{remark}",
            escaped(&view.key.database),
            escaped(&view.key.user),
            view.clients,
            pool.cl_waiting,
            pool.maxwait.as_secs_f64(),
            pool.servers(),
            pool.sv_active,
            pool.sv_idle + pool.sv_used,
            pool.settings.pool_size,
            pool.stats.xact_count,
            pool.stats.query_count,
        );
    }
    page.push_str("</table>\n");
    page
}

/// Text that stands for itself between tags.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_cannot_become_tags() {
        assert_eq!(super::escaped("<b>&"), "&lt;b&gt;&amp;");
    }
}
