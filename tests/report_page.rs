//! The page of a study in a real browser: no complaint, toggles, values under the pointer, all of it by keyboard too.

#[path = "report_support/browser.rs"]
mod browser;
mod report_support;
mod support;

use backpack_run::report::{Options, report};
use browser::Browser;

#[test]
fn the_page_works_in_a_browser() {
    let root = support::temporary_folder();
    let folder = report_support::write_study(root.path());
    report(&folder, &Options::default()).unwrap();
    let Some(mut page) = Browser::open(&format!("file://{}", folder.join("index.html").display())) else {
        support::skip!("the_page_works_in_a_browser", "there is no Chromium");
    };
    let seen = "Array.from(document.querySelectorAll('figure .series[data-optimizer=KFAC]'))\
                .filter(e => getComputedStyle(e).display !== 'none').length";
    let all = page.evaluate(seen);
    assert_eq!(all, 8); // four metrics: band and line
    page.click("input[value=KFAC]");
    assert_eq!(page.evaluate(seen), 0);
    assert_eq!(page.evaluate("document.querySelectorAll('figure .series[data-optimizer=Adam].off').length"), 0);
    // The keyboard does the same: the box that was clicked has the focus.
    page.press(" ", 32, " ");
    assert_eq!(page.evaluate(seen), all);
    let figures = "Array.from(document.querySelectorAll('figure')).filter(e => e.offsetParent).length";
    page.click("input[value=test_losses]");
    assert_eq!(page.evaluate(figures), 3);
    page.click("button[data-all=metric]");
    assert_eq!(page.evaluate(figures), 4);

    // The middle of the frame is epoch 2 of 4, where KFAC's median test accuracy is .1 + .82 / 2.
    let middle = page.middle("figure[data-metric=test_accuracies] svg > rect[stroke]");
    page.move_to(middle);
    let output = "document.querySelector('figure[data-metric=test_accuracies] output').textContent";
    let text = page.evaluate(output).as_str().unwrap().to_owned();
    assert!(text.starts_with("epoch 2") && text.contains("KFAC 0.51 ["), "{text}");
    // Tab goes from the last button to the first panel; there the arrow keys go through the epochs.
    page.evaluate("document.querySelector('button[data-all=metric]').focus()");
    page.press("Tab", 9, "");
    assert_eq!(page.evaluate("document.activeElement.dataset.panel"), "p-test_losses");
    page.press("End", 35, "");
    page.press("ArrowLeft", 37, "");
    let output = "document.querySelector('figure[data-metric=test_losses] output b').textContent";
    assert_eq!(page.evaluate(output), "epoch 3");
    assert!(page.complaints.is_empty(), "{:?}", page.complaints);
}
