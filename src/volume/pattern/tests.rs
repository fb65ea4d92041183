use super::*;

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().copied().collect()
}

/// Calls `test` with the facts of a claim `test` in `default`, provisioned for a node.
fn with_facts(test: impl FnOnce(ClaimFacts<'_>)) {
    let labels = map(&[("a.a", "b"), ("app.kubernetes.io/name", "web"), ("up", "../../other")]);
    let annotations = map(&[
        ("team", "red"),
        ("nested", "x/y"),
        ("rooted", "/x"),
        ("template", "${.PVC.name}"),
        ("two", "x,subdir=/"),
    ]);
    let mut node = Node::default();
    node.metadata.name = "node-1".into();
    node.spec.pod_cidr = "10.244.0.0/24".into();
    node.metadata.labels = map(&[("zone", "z1")]);
    node.metadata.annotations = map(&[("fs1.juicefs.com/cacheGroup", "region-1")]);
    test(ClaimFacts {
        name: Some("test"),
        shares_secret: false,
        namespace: "default",
        labels: &labels,
        annotations: &annotations,
        volume: Some("pvc-1"),
        node: SelectedNode::Known(&node),
    });
}

#[test]
fn templates_give_what_the_go_driver_gives() {
    with_facts(|facts| {
        for (template, wanted) in [
            ("${.PVC.name}-a", "test-a"),
            ("${.pvc.namespace}/${.PVC.name}", "default/test"),
            ("${.PVC.labels.a.a}-a", "b-a"),
            ("${.PVC.labels.app.kubernetes.io/name}", "web"),
            ("${.node.podCIDR}-a", "10.244.0.0/24-a"),
            ("${.node.name}/${.node.labels.zone}", "node-1/z1"),
            ("${.node.annotations.fs1.juicefs.com/cacheGroup}-a", "region-1-a"),
            ("${.PVC.annotations.unknown}-a", "-a"),
            ("${.PVC.uid}-a", "-a"),
            ("plain", "plain"),
            // Values are not templates.
            ("${.PVC.annotations.template}", "${.PVC.name}"),
        ] {
            assert_eq!(resolve_path(template, &facts).unwrap().text, wanted, "{template}");
            assert_eq!(resolve_parameter(template, &facts).unwrap().text, wanted, "{template}");
        }
    });
}

#[test]
fn what_is_empty_or_no_template_is_warned_of() {
    with_facts(|facts| {
        let warnings = |template: &str| resolve_parameter(template, &facts).unwrap().warnings;
        assert_eq!(warnings("${.PVC.name}"), Vec::<String>::new());
        assert_eq!(warnings("${.PVC.labels.x}"), ["\"${.PVC.labels.x}\": ${.PVC.labels.x} is empty"]);
        assert_eq!(warnings("${PVC.name}").len(), 1);
        assert_eq!(
            resolve_parameter("${PVC.name}${.PVC.name", &facts).unwrap().text,
            "${PVC.name}${.PVC.name"
        );
        let facts = ClaimFacts { node: SelectedNode::None, ..facts };
        assert_eq!(resolve_parameter("a${.node.name}", &facts).unwrap().text, "a");
        assert_eq!(resolve_parameter("a${.node.name}", &facts).unwrap().warnings.len(), 1);
    });
}

#[test]
fn a_path_may_not_leave_its_parent_or_have_two_spellings() {
    with_facts(|facts| {
        for (template, what) in [
            ("", "is empty"),
            (
                "${.PVC.annotations.none}",
                "is empty and would be the whole file system; empty are ${.PVC.annotations",
            ),
            ("/${.PVC.name}", "begins with a slash"),
            ("${.PVC.annotations.rooted}", "begins with a slash"),
            ("${.PVC.annotations.none}/a", "begins with a slash; empty are ${.PVC.annotations.none}"),
            ("a/${.PVC.labels.up}", "has the component \"..\""),
            ("a/../b", "has the component \"..\""),
            ("./a", "has the component \".\""),
            ("a//b", "has an empty component"),
            ("a/", "has an empty component"),
            ("a\nb", "contains a control character"),
            ("a,b", "contains a comma"),
        ] {
            let error = resolve_path(template, &facts).unwrap_err().to_string();
            assert!(error.contains(what), "{template}: {error}");
            assert!(resolve_parameter(template, &facts).is_ok());
        }
        assert!(resolve_path(&"x".repeat(256), &facts).is_err());
        for path in ["a/${.PVC.annotations.nested}", "..a/.b", "a b/ü"] {
            assert!(resolve_path(path, &facts).is_ok(), "{path}");
        }
    });
}

#[test]
fn what_is_not_known_yet_is_named() {
    with_facts(|facts| {
        let facts = ClaimFacts { name: None, volume: None, node: SelectedNode::Later, ..facts };
        for (template, variable) in
            [("x-${.PVC.name}", "${.PVC.name}"), ("${.node.labels.zone}/x", "${.node.labels.zone}")]
        {
            let error = resolve_path(template, &facts).unwrap_err().to_string();
            assert!(error.contains(&format!("{template:?} needs {variable}")), "{error}");
        }
        for template in ["${pvc.name}", "x-${pv.name}"] {
            assert!(
                resolve_secret_reference(template, &facts).unwrap_err().to_string().contains("not known yet")
            );
        }
        assert!(resolve_path("${.PVC.namespace}/x", &facts).is_ok());
        assert!(resolve_secret_reference("${pvc.namespace}", &facts).is_ok());
    });
}

#[test]
fn secret_references_expand_as_a_shell_would() {
    with_facts(|facts| {
        for (template, wanted, warnings) in [
            ("juicefs-secret", "juicefs-secret", 0),
            ("${pvc.name}-${pvc.namespace}-${pv.name}", "test-default-pvc-1", 0),
            ("${pvc.annotations['team']}", "red", 0),
            ("${pvc.annotations['none']}x", "x", 1),
            ("${pvc.uid}x", "x", 1),
            ("$pvc.name", ".name", 1),
            ("$1x", "x", 1),
            ("a$", "a$", 0),
            ("a$.b", "a$.b", 0),
            ("${}x", "x", 1),
        ] {
            let expanded = resolve_secret_reference(template, &facts).unwrap();
            assert_eq!((expanded.text.as_str(), expanded.warnings.len()), (wanted, warnings), "{template}");
        }
        assert!(resolve_secret_reference("${pvc.name", &facts).is_err());
    });
}

proptest::proptest! {
    #[test]
    fn no_template_panics_and_paths_are_clean(template in "[${}.a/PVCname'\\[\\]é-]{0,40}") {
        with_facts(|facts| {
            drop(resolve_parameter(&template, &facts));
            drop(resolve_secret_reference(&template, &facts));
            if let Ok(path) = resolve_path(&template, &facts) {
                assert!(path.text.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        });
    }
}

#[test]
fn a_value_cannot_begin_another_mount_option() {
    with_facts(|facts| {
        let error = resolve_options("cache-size=1,cache-group=${.PVC.annotations.two}", &facts).unwrap_err();
        assert!(error.to_string().contains("a comma"), "{error}");
        let options = resolve_options("cache-size=1,cache-group=${.PVC.annotations.team}", &facts).unwrap();
        assert_eq!(options.text, "cache-size=1,cache-group=red");
    });
}
