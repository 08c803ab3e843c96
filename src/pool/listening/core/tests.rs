use super::*;

type Hub = Core<&'static str>;

fn names<const N: usize>(names: [&str; N]) -> Vec<Name> {
    names.map(|name| name.as_bytes().into()).into()
}

fn hearers(hub: &Hub, channel: &str) -> Vec<&'static str> {
    hub.hearers(channel.as_bytes()).copied().collect()
}

/// The connection does all that there is to do.
fn settle(hub: &mut Hub) {
    while hub.next_change().is_some() {
        hub.changed();
    }
}

/// Somebody who listens on the hub.
fn open<const N: usize>(hub: &mut Hub, who: &'static str, channels: [&str; N]) -> EarId {
    let ear = hub.join(who);
    hub.tune(ear, names(channels));
    settle(hub);
    assert!(hub.arm(ear, Turn::Open, ear.into()).is_some());
    assert!(hub.pass(ear.into()).is_some());
    ear
}

#[test]
fn who_listens_hears_from_its_marker_on_and_only_its_channels() {
    let mut hub = Hub::new();
    let ear = hub.join("one");
    hub.tune(ear, names(["a", "b"]));
    assert!(!hub.hears(ear));
    assert_eq!(hub.arm(ear, Turn::Open, 6), None, "it would hear nothing there");
    let change = hub.next_change().unwrap();
    assert_eq!((change.listen.len(), change.unlisten.len()), (2, 0));
    assert_eq!(hub.next_change(), None, "one thing after the other");
    assert_eq!(hub.changed(), ["one"]);
    assert!(hub.hears(ear));
    assert_eq!(hearers(&hub, "a"), [""; 0], "it hears from its server still");
    let number = hub.arm(ear, Turn::Open, 7).unwrap();
    assert_eq!(hub.pass(8), None, "nobody's marker");
    assert_eq!(hub.pass(7), Some(("one", number)));
    assert_eq!(hub.pass(7), None, "a marker is good once");
    assert_eq!((hearers(&hub, "a"), hearers(&hub, "c")), (vec!["one"], vec![]));
    hub.arm(ear, Turn::Close, 9);
    assert!(hub.pass(9).is_some());
    assert_eq!(hearers(&hub, "a"), [""; 0], "it hears from its server again");
}

#[test]
fn a_channel_is_asked_for_once_and_given_up_by_the_last_who_wants_it() {
    let mut hub = Hub::new();
    let one = open(&mut hub, "one", ["a"]);
    let two = open(&mut hub, "two", ["a", "b"]);
    assert_eq!(hearers(&hub, "a"), ["one", "two"]);
    hub.leave(one);
    assert_eq!(hub.next_change(), None);
    hub.tune(two, names(["b"]));
    assert_eq!(hearers(&hub, "a"), [""; 0]);
    assert_eq!(hub.next_change().unwrap().unlisten, names(["a"]));
    hub.changed();
    hub.leave(two);
    assert_eq!((hub.len(), hub.channels()), (0, 0));
}

#[test]
fn a_channel_that_is_wanted_again_meanwhile_is_heard_again() {
    let mut hub = Hub::new();
    let one = hub.join("one");
    hub.tune(one, names(["a"]));
    // Given up while it is being asked for, then wanted by another.
    assert!(hub.next_change().is_some());
    hub.leave(one);
    let two = hub.join("two");
    hub.tune(two, names(["a"]));
    assert_eq!(hub.changed(), ["two"]);
    assert!(hub.hears(two));
    // Given up and wanted again before anything was asked: there is nothing to ask.
    hub.tune(two, names([]));
    hub.tune(two, names(["a"]));
    assert!(hub.hears(two));
    assert_eq!(hub.next_change(), None);
    // Given up for good while the connection gives it up, and wanted again.
    hub.tune(two, names([]));
    assert_eq!(hub.next_change().unwrap().unlisten, names(["a"]));
    hub.tune(two, names(["a"]));
    assert!(!hub.hears(two));
    hub.changed();
    assert_eq!(hub.next_change().unwrap().listen, names(["a"]));
    assert_eq!(hub.changed(), ["two"]);
}

#[test]
fn a_channel_that_nobody_wants_once_it_is_heard_is_given_up() {
    let mut hub = Hub::new();
    let one = hub.join("one");
    hub.tune(one, names(["a"]));
    assert!(hub.next_change().is_some());
    hub.leave(one);
    assert_eq!(hub.changed(), [""; 0]);
    assert_eq!(hub.next_change().unwrap().unlisten, names(["a"]));
}

#[test]
fn those_on_the_hub_or_on_their_way_are_deaf_when_it_is_lost() {
    let mut hub = Hub::new();
    open(&mut hub, "on the hub", ["a"]);
    let coming = hub.join("coming");
    hub.tune(coming, names(["a"]));
    let number = hub.arm(coming, Turn::Open, 1).unwrap();
    let pinned = hub.join("on its server");
    hub.tune(pinned, names(["a"]));
    let mut deaf = hub.lose();
    deaf.sort_unstable();
    assert_eq!(deaf, ["coming", "on the hub"]);
    assert!(!hub.hears(pinned));
    // It is connected again.
    assert_eq!(hub.next_change().unwrap().listen, names(["a"]));
    hub.changed();
    assert!(hub.is_complete() && hub.hears(pinned));
    assert_eq!(hub.pass_all(), [("coming", number)]);
    assert_eq!(hearers(&hub, "a"), ["on the hub", "coming"]);
    assert_eq!(hub.pass(1), None, "the marker comes after all, too late");
}

#[test]
fn many_channels_are_asked_for_in_bites() {
    let mut hub = Hub::new();
    let ear = hub.join("one");
    let all: Vec<Name> = (0..250).map(|n| n.to_string().into_bytes().into()).collect();
    hub.tune(ear, all);
    let mut bites = Vec::new();
    while let Some(change) = hub.next_change() {
        assert!(!hub.hears(ear));
        bites.push(change.listen.len());
        hub.changed();
    }
    assert_eq!(bites, [100, 100, 50]);
    assert!(hub.hears(ear));
}
