"""Secrets that are not there: an installation is refused before a pod waits for them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.cluster import cluster
from tests.chart.helm import HELMS, NAMESPACE, Helm, Refused, Rendering, Values

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with cluster(NAMESPACE, {"clients": {"keys": "a-key"}, "certificate": {"tls.crt": "", "tls.key": ""}}) as found:
        yield found


def install(helm: Helm, address: str, values: Values) -> str:
    """Asks the cluster, and changes nothing in it."""
    asked = ("--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", address)
    return helm.render(Rendering(values=values, extra=asked))


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"auth": {"apiKeys": {"existingSecret": "gone"}}}, "auth.apiKeys names the Secret gone, and there is none"),
        ({"auth": {"apiKeys": {"existingSecret": "clients", "key": "k"}}}, "has no key k, but keys"),
        ({"tls": {"existingSecret": "gone"}}, "tls names the Secret gone"),
        (
            {"tls": {"existingSecret": "certificate"}, "monitoring": {"podMonitor": {"enabled": True}}},
            "(or set monitoring.tlsConfig): the Secret certificate has no key ca.crt",
        ),
        ({"test": {"existingSecret": "gone"}}, "test names the Secret gone"),
        ({"modelSource": {"download": {"tokenSecret": {"name": "gone"}}}}, "tokenSecret names the Secret gone"),
    ],
    ids=str,
)
def test_a_missing_secret_is_named(helm: Helm, address: str, values: Values, words: str) -> None:
    with pytest.raises(Refused) as refusal:
        install(helm, address, values)
    assert words in str(refusal.value)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_those_that_are_there_will_do(helm: Helm, address: str) -> None:
    named = {"auth": {"apiKeys": {"existingSecret": "clients"}}, "tls": {"existingSecret": "certificate"}}
    assert 'secretName: "certificate"' in install(helm, address, named)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_whoever_has_them_made_by_the_release_may_say_so(helm: Helm, address: str) -> None:
    install(helm, address, {"auth": {"apiKeys": {"existingSecret": "gone"}, "checkSecrets": False}})
