//! The definition compiler: what it refuses, what it takes, and what it makes of it.

mod accepted {
    use skald_engine::{Plan, definition::compile};

    const TWO_STEPS: &str = include_str!("definition/two_steps.json");
    const ORDER: &str = include_str!("definition/order.json");

    #[test]
    fn the_saga_of_fifteen_lines_and_the_order_compile() {
        for source in [TWO_STEPS, ORDER] {
            let plan = compile(source).unwrap().plan;
            let encoded = plan.encode();
            let read = Plan::decode(1, &encoded).unwrap();
            assert_eq!(read, plan);
            assert_eq!(read.encode(), encoded);
        }
        assert!(TWO_STEPS.lines().count() <= 15);
    }

    #[test]
    fn a_lowered_plan_reads_like_this() {
        let plan = compile(ORDER).unwrap().plan;
        expect_test::expect_file!["definition/order.plan.json"]
            .assert_eq(&format!("{}\n", serde_json::to_string_pretty(&plan).unwrap()));
    }
}
