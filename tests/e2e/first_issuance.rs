//! First issuance: from a document to a certificate that a browser trusts.

use tests::LocalCloud;

#[tokio::test(flavor = "multi_thread")]
async fn a_document_becomes_a_certificate_the_browser_trusts() {
    let cloud = LocalCloud::start().await;
    let shop = cloud.install("shop").await;
    shop.want("shop", &["shop.example.com"]).await;
    assert!(shop.browser_trusts("shop.example.com").await.is_err());

    let pass = shop.pass().await;

    assert_eq!(pass.outcome("shop"), "issued", "{:#}", pass.report());
    let leaf = shop.browser_trusts("shop.example.com").await.unwrap();
    assert_eq!(leaf.names, ["shop.example.com"]);
    assert_eq!(leaf.serial, pass.certificate("shop")["serial"]);
    let listed = shop.listed().await;
    assert_eq!(listed.default, shop.placeholder);
    assert_eq!(listed.sni.len(), 1);
}

#[test]
fn the_challenge_function_stays_small() {
    let size = std::fs::metadata(tests::binary("challenge")).unwrap().len();
    assert!(
        size < 6_000_000,
        "{size} bytes: what did it begin to depend on?"
    );
}
