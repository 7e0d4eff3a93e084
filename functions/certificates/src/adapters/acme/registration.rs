//! Registers an account key (RFC 8555 section 7.3). The library does that with a key of its own or
//! without contacts; some authorities refuse an account without them, and our key is in the bucket
//! before any authority knows it.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::prelude::{BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, LOCATION};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{NONCE_ROUNDS, ours};
use super::http::Exchange;
use crate::ports::authority::{ExternalBinding, Registered};
use crate::values::problem::{AcmeError, URN};

/// What a registration says.
pub(super) struct Registration<'r> {
    /// The directory's URL.
    pub(super) directory: &'r str,
    /// The account key: PKCS#8 in DER.
    pub(super) key: &'r [u8],
    pub(super) contact: &'r [String],
    pub(super) binding: Option<&'r ExternalBinding>,
}

impl Registration<'_> {
    /// Registers the key. Finds the account if the key has one already.
    pub(super) async fn send(&self, exchange: &Exchange) -> Result<Registered, AcmeError> {
        let places: Places = exchange.read(self.directory).await?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, self.key)
            .map_err(|error| ours("accountKey", &format!("the key cannot be used: {error}")))?;
        let jwk = jwk(&key);
        let mut payload = json!({"termsOfServiceAgreed": true});
        if !self.contact.is_empty() {
            payload["contact"] = self.contact.into();
        }
        if let Some(binding) = self.binding {
            payload["externalAccountBinding"] = bound(binding, &jwk, &places.new_account)?;
        }
        for _ in 0..NONCE_ROUNDS {
            let nonce = exchange.nonce(&places.new_nonce).await?;
            let protected = json!({
                "alg": "ES256",
                "jwk": jwk,
                "nonce": nonce,
                "url": places.new_account,
            });
            let body = signed(&protected, &payload, |message| {
                let signature = key.sign(&SystemRandom::new(), message);
                signature.map(|signature| signature.as_ref().to_vec())
            })?;
            match post(exchange, &places.new_account, &body).await {
                Err(refusal) if refusal.word() == "badNonce" => {}
                Err(refusal) => return Err(refusal),
                Ok(answer) => return registered(answer, &places.new_account).await,
            }
        }
        Err(ours(
            "authority",
            "the authority refuses each nonce that it gave",
        ))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Places {
    new_nonce: String,
    new_account: String,
}

async fn post(exchange: &Exchange, url: &str, body: &Value) -> Result<BytesResponse, AcmeError> {
    let asked = async {
        let request = Request::post(url)
            .header(CONTENT_TYPE, "application/jose+json")
            .body(BodyWrapper::from(body.to_string().into_bytes()))?;
        exchange.request(request).await
    };
    let answer = asked.await.map_err(|error| exchange.refusal(&error))?;
    exchange.accepted().map(|()| answer)
}

async fn registered(mut answer: BytesResponse, url: &str) -> Result<Registered, AcmeError> {
    // Nothing else of the content is needed, so it may be anything.
    let content = answer.body.into_bytes().await.unwrap_or_default();
    let content: Value = serde_json::from_slice(&content).unwrap_or_default();
    if let Some(status @ ("deactivated" | "revoked")) = content["status"].as_str() {
        let detail = format!("{url} says that the account is {status}");
        return Err(AcmeError {
            kind: format!("{URN}unauthorized"),
            ..ours("authority", &detail)
        });
    }
    let location = answer.parts.headers.get(LOCATION);
    let account = location.and_then(|location| location.to_str().ok());
    let status = answer.parts.status.as_u16();
    account.map_or_else(
        || {
            let detail =
                format!("{url} answered HTTP {status} without the account's URL (Location)");
            Err(ours("authority", &detail))
        },
        |account| {
            Ok(Registered {
                url: account.to_owned(),
                is_new: status == 201,
            })
        },
    )
}

/// RFC 8555 section 7.3.4.
fn bound(binding: &ExternalBinding, jwk: &Value, url: &str) -> Result<Value, AcmeError> {
    // Some authorities publish the HMAC key with padding, most without.
    let hmac_key = binding.hmac.trim();
    let secret = BASE64_URL_SAFE_NO_PAD
        .decode(hmac_key)
        .or_else(|_| BASE64_URL_SAFE.decode(hmac_key))
        .map(Zeroizing::new)
        .map_err(|_| {
            ours(
                "externalAccount",
                "the external account secret is not base64url; store the HMAC key as the \
                 authority shows it",
            )
        })?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let protected = json!({"alg": "HS256", "kid": binding.key_id, "url": url});
    signed(&protected, jwk, |message| {
        Ok(hmac::sign(&key, message).as_ref().to_vec())
    })
}

/// RFC 7515 section 7.2.2.
fn signed(
    protected: &Value,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified>,
) -> Result<Value, AcmeError> {
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let (protected, payload) = (encoded(protected), encoded(payload));
    let signature = sign(format!("{protected}.{payload}").as_bytes())
        .map_err(|_| ours("accountKey", "the account key cannot sign"))?;
    Ok(json!({
        "protected": protected,
        "payload": payload,
        "signature": BASE64_URL_SAFE_NO_PAD.encode(signature),
    }))
}

/// RFC 7517, RFC 7518 section 6.2: the public key as an uncompressed point without its first byte.
fn jwk(key: &EcdsaKeyPair) -> Value {
    let point = key.public_key().as_ref();
    let (x, y) = point[1..].split_at(COORDINATE);
    let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    json!({"crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y)})
}

/// The length of a coordinate of P-256 in bytes.
const COORDINATE: usize = 32;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_signature_holds_for_its_message() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
        let key = key.unwrap();
        let jws = signed(&json!({"alg": "ES256"}), &json!({}), |message| {
            Ok(key.sign(&random, message)?.as_ref().to_vec())
        });
        let jws = jws.unwrap();
        let part = |member: &str| jws[member].as_str().unwrap().to_owned();
        let message = format!("{}.{}", part("protected"), part("payload"));
        let signature = BASE64_URL_SAFE_NO_PAD.decode(part("signature")).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref());
        public.verify(message.as_bytes(), &signature).unwrap();
    }

    #[test]
    fn a_binding_names_the_key_and_holds_the_account_key() {
        let binding = |hmac: &str| ExternalBinding {
            key_id: "kid-1".to_owned(),
            hmac: Zeroizing::new(hmac.to_owned()),
        };
        let jwk = json!({"kty": "EC"});
        let url = "https://acme.example/new-account";
        let plain = bound(&binding("c2VjcmV0LWtleS0x"), &jwk, url).unwrap();
        let protected = BASE64_URL_SAFE_NO_PAD.decode(plain["protected"].as_str().unwrap());
        let protected: Value = serde_json::from_slice(&protected.unwrap()).unwrap();
        let wanted = json!({"alg": "HS256", "kid": "kid-1", "url": url});
        assert_eq!(protected, wanted);
        // The same key, once with padding.
        let padded = bound(&binding(" c2VjcmV0LWtleS0xMg==\n"), &jwk, url).unwrap();
        let unpadded = bound(&binding("c2VjcmV0LWtleS0xMg"), &jwk, url).unwrap();
        assert_eq!(padded, unpadded);
        let refused = bound(&binding("not base64!"), &jwk, url).unwrap_err();
        assert_eq!(refused.kind, "certloop:externalAccount");
    }
}
