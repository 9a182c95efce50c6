//! What is printed keeps to the width of the terminal.

use crate::support::program;

#[test]
fn a_table_is_as_wide_as_the_terminal_has_columns() {
    let said = |columns: &str| {
        let output = program().args(["list", "optimizers"]).env("COLUMNS", columns).assert().success();
        String::from_utf8(output.get_output().stdout.clone()).unwrap()
    };
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    let (narrow, wide) = (said("80"), said("150"));
    assert!(longest(&narrow) <= 80 && longest(&wide) <= 150, "{narrow}{wide}");
    assert!(longest(&wide) > 80, "there is room for more: {wide}");
}
