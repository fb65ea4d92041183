use serde_json::json;

use super::*;
use crate::offline::documents;

fn change(text: &str, change: impl Fn(&mut Value)) -> Option<String> {
    let document = documents::parse("x.yaml", text).expect("readable").pop().expect("a document");
    let mut value = document.value.clone();
    change(&mut value);
    edited(&document, &value)
}

const POD: &str = "\
# head
apiVersion: v1 # inline
metadata: {name: 'c', labels: {}} # flow
# before
spec:
    # list
    containers:
      # first
      - name: app   # app
        image: \"busybox\"   # renovate: x
        args:
        - |
          a
            b

        # mounts
        volumeMounts:
        - name: data # d
          mountPath: /data
    volumes: # many
    -   name: data
        persistentVolumeClaim:
            claimName: data # claim

    # the end
# trailing
";

#[test]
fn only_what_changes_is_rewritten() {
    let result = change(POD, |pod| {
        pod["metadata"]["labels"]["a/b"] = "true".into();
        pod["metadata"]["annotations"] = json!({"x": "{\"y\": 1}"});
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "jfs", "args": ["a\nb\n"]}));
        pod["spec"]["containers"][1]["volumeMounts"][0]["readOnly"] = true.into();
        let volume = &mut pod["spec"]["volumes"][0];
        volume.as_object_mut().unwrap().shift_remove("persistentVolumeClaim");
        volume["emptyDir"] = json!({});
        pod["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "more", "hostPath": {"path": "/x"}}));
        pod["spec"]["grace"] = 63.into();
    });
    let expected = "\
# head
apiVersion: v1 # inline
metadata: {name: 'c', labels: {a/b: \"true\"}, annotations: {x: \"{\\\"y\\\": 1}\"}} # flow
# before
spec:
    # list
    containers:
      - name: jfs
        args:
        - |
          a
          b
      # first
      - name: app   # app
        image: \"busybox\"   # renovate: x
        args:
        - |
          a
            b

        # mounts
        volumeMounts:
        - name: data # d
          mountPath: /data
          readOnly: true
    volumes: # many
    -   name: data
        emptyDir: {}
    - name: more
      hostPath:
        path: /x
    grace: 63

    # the end
# trailing
";
    assert_eq!(result.as_deref(), Some(expected));
}

#[test]
fn keys_and_items_go_wherever_they_stand() {
    for (text, pointer, key, expected) in [
        ("a: 1\nb: 2 # two\nc: 3\n", "", "b", "a: 1\nc: 3\n"),
        ("l:\n- a: 1\n  b: 2\n", "/l/0", "a", "l:\n- b: 2\n"),
        ("x: {a: 1, b: 2} # c\n", "/x", "a", "x: {b: 2} # c\n"),
        ("a:\n  b:\n    c: 1\n  # of d\n  d: 1", "/a", "b", "a:\n  # of d\n  d: 1"),
        ("a: 1\r\nb: 2\r\n", "", "a", "b: 2\r\n"),
    ] {
        let result = change(text, |value| {
            value.pointer_mut(pointer).unwrap().as_object_mut().unwrap().shift_remove(key);
        });
        assert_eq!(result.as_deref(), Some(expected), "{text}");
    }
    let result = change("a:\n- 1 # one\n- 2 # two\n- 3\n", |value| {
        value["a"].as_array_mut().unwrap().remove(1);
    });
    assert_eq!(result.as_deref(), Some("a:\n- 1 # one\n- 3\n"));
}

#[test]
fn the_end_of_the_text_may_be_the_end_of_a_line_or_not() {
    for (text, expected) in [
        ("a: 1", "a: 1\nb: 2"),
        ("a: 1\n", "a: 1\nb: 2\n"),
        ("a:\n", "a:\nb: 2\n"),
        ("a: 1\r\n", "a: 1\r\nb: 2\r\n"),
        ("a: |\n  x\n", "a: |\n  x\nb: 2\n"),
        ("---\na: 1\n...\n", "---\na: 1\nb: 2\n...\n"),
        ("a: 1\n# end\n", "a: 1\nb: 2\n# end\n"),
    ] {
        assert_eq!(change(text, |value| value["b"] = 2.into()).as_deref(), Some(expected), "{text:?}");
    }
    assert_eq!(
        change("a:\nb: 1\n", |value| value["a"] = json!({"x": "y"})).as_deref(),
        Some("a: {x: \"y\"}\nb: 1\n")
    );
}

#[test]
fn what_would_change_elsewhere_too_is_not_edited() {
    assert_eq!(change("a: &x {b: 1}\nc: *x\n", |value| value["a"]["b"] = 2.into()), None);
    assert_eq!(change("a: &x {b: 1}\nc: *x\n", |value| value["c"]["b"] = 2.into()), None);
    let merged = "a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n";
    assert_eq!(change(merged, |value| value["c"]["b"] = 2.into()), None);
    assert_eq!(
        change(merged, |value| value["c"]["e"] = 2.into()).as_deref(),
        Some("a: &x {b: 1}\nc:\n  <<: *x\n  d: 1\n  e: 2\n")
    );
}

#[test]
fn comments_go_with_what_they_are_in() {
    let kept = "\
volumes:
- name: data
  # where it is
  persistentVolumeClaim: # moved
    claimName: data # the claim
    # of the next
- # the second
  persistentVolumeClaim:
    claimName: \"logs\" # renovate
  # its name
  name: logs
";
    let moved = change(kept, |value| {
        let volumes = value["volumes"].as_array_mut().unwrap();
        for index in 0..2 {
            let volume = volumes[index].as_object_mut().unwrap();
            let source = volume.shift_remove("persistentVolumeClaim").unwrap();
            volume.insert("emptyDir".into(), json!({}));
            let name = format!("jfs-claim-{}", volume["name"].as_str().unwrap());
            volumes.push(json!({"name": name, "persistentVolumeClaim": source}));
        }
    });
    let expected = "\
volumes:
- name: data
  # where it is
  emptyDir: {}
    # of the next
- # the second
  # its name
  name: logs
  emptyDir: {}
- name: jfs-claim-data
  persistentVolumeClaim: # moved
    claimName: data # the claim
- name: jfs-claim-logs
  persistentVolumeClaim:
    claimName: \"logs\" # renovate
";
    assert_eq!(moved.as_deref(), Some(expected));
    // And back, where the place is before the one it comes from.
    let back = change(expected, |value| {
        let volumes = value["volumes"].as_array_mut().unwrap();
        for index in [1, 0] {
            let source = volumes.pop().unwrap()["persistentVolumeClaim"].take();
            let volume = volumes[index].as_object_mut().unwrap();
            volume.shift_remove("emptyDir");
            volume.insert("persistentVolumeClaim".into(), source);
        }
    })
    .unwrap();
    for comment in [
        "# where it is",
        "# moved",
        "data # the claim",
        "# of the next",
        "# the second",
        "\"logs\" # renovate",
        "# its name",
    ] {
        assert_eq!(back.matches(comment).count(), 1, "{comment}: {back}");
    }
}

#[test]
fn a_text_in_a_block_stays_in_one() {
    for (text, new, expected) in [
        (
            "a: 1\nb: |\n    x /jfs/a\n    y\nc: 1\n",
            "x /jfs/b\ny\n",
            "a: 1\nb: |\n    x /jfs/b\n    y\nc: 1\n",
        ),
        ("b:\n- |-\n  x\n\n  y\n- z\n", "x\n\nw", "b:\n- |-\n  x\n\n  w\n- z\n"),
        ("b: |-\r\n  x\r\n  y\r\nc: 1\r\n", "x\nz", "b: |-\r\n  x\r\n  z\r\nc: 1\r\n"),
        ("b: >-\n  x\n  y\nc: 1\n", "z", "b: \"z\"\nc: 1\n"),
    ] {
        let result = change(text, |value| {
            let place = if value["b"].is_array() { &mut value["b"][0] } else { &mut value["b"] };
            *place = new.into();
        });
        assert_eq!(result.as_deref(), Some(expected), "{text:?}");
    }
}
