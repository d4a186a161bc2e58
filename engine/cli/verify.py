"""`engine verify transcript`: a chain of custody proved from its file, without asking anybody (contract 11.4).

`token` and `webhook`, the other things that are proved from files, have files of their own.

What was checked goes to stdout, record by record; a proof that does not hold ends as every failure of trust does.
"""

from __future__ import annotations

import click

from engine.cli.foreign import read_file, shown
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import Paint, emit, emit_json, plural, tell
from engine.cli.verify_token import token
from engine.cli.verify_webhook import webhook
from engine.codec.payload import decode, to_wire
from engine.contract.provenance import ROOT, ROOT_SIGNATURE, Failure, VerifyKeys
from engine.errors import BrokenProof, RecordError, UnknownKey
from engine.settings import Secret
from engine.trust.records import TEXT_MAX
from engine.trust.signers import HmacSigner, MlDsaVerifier, Verifier, read_key
from engine.trust.transcript import Verdict, verify_text

_KEY_FILE_MAX = 1024 * 1024


@click.group()
def verify() -> None:
    """Proofs, checked on this machine alone."""


verify.add_command(token)
verify.add_command(webhook)


@verify.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--keys", metavar="FILE", help="Public keys of ML-DSA-65: the answer of `engine call provenance.keys`, as saved."
)
@click.option("--tenant-key", metavar="FILE", help="The tenant's derived HMAC key, as 64 hex digits.")
@click.option("--evidence", metavar="ID", help="Refuse a transcript of other evidence.")
@click.option("--tenant", metavar="ID", help="Refuse a transcript of another tenant.")
@click.option("--chain-only", is_flag=True, help="Be content with order, parent hashes and root, without a key.")
@click.option("--json", "is_json", is_flag=True, help="The whole verdict as one JSON object.")
@pass_invocation
def transcript(
    invocation: Invocation,
    *,
    file: str,
    keys: str | None,
    tenant_key: str | None,
    evidence: str | None,
    tenant: str | None,
    chain_only: bool,
    is_json: bool,
) -> None:
    """Verify the transcript in FILE (- is stdin): its order, parent hashes, Merkle root and signatures.

    Example: engine verify transcript t.json --keys keys.json

    Says of each record what was checked and what does not hold. Without the key for its algorithm signatures cannot
    be checked, and then it proves nothing: that is a failure too, unless --chain-only is given.
    """
    verifiers = _verifiers(keys, tenant_key)
    try:
        verdict = verify_text(read_file(file, TEXT_MAX), verifiers, evidence_id=evidence, tenant_id=tenant)
    except RecordError as exc:
        raise BrokenProof(f"{file}: {exc.message}") from exc
    if is_json:
        told = {"holds": verdict.holds, "is_proven": verdict.is_proven}
        emit_json({"file": file, **told, **to_wire(verdict)})
    else:
        emit("\n".join(_lines(verdict, invocation.paint_out())))
    _conclude(file, verdict, may_be_unsigned=chain_only)


def _verifiers(keys: str | None, tenant_key: str | None) -> list[Verifier]:
    found: list[Verifier] = []
    if keys is not None:
        try:
            found.append(MlDsaVerifier.from_keys(decode(read_file(keys, _KEY_FILE_MAX), VerifyKeys)))
        except RecordError as exc:
            raise UnknownKey(f"{keys} is not a document of keys: {exc.message}") from exc
    if tenant_key is not None:
        text = read_file(tenant_key, _KEY_FILE_MAX).decode("utf-8", "replace")
        found.append(HmacSigner(read_key(Secret(text))))
    return found


def _lines(verdict: Verdict, paint: Paint) -> list[str]:
    """One line for each record, and one for the root."""
    lines = []
    for one in verdict.records:
        state = f"{paint.bad('FAILED')}  {', '.join(one.failed)}" if one.failed else paint.good("ok")
        lines.append(f"{one.index:>6}  {shown(one.record_id)}  {state}  {paint.dim('of ' + ', '.join(one.checked))}")
    failed = [failure.reason for failure in verdict.failures if failure.index is None or failure.reason == ROOT]
    checked = "merkle_root" if verdict.root_signature_valid is None else "merkle_root, root_signature"
    state = f"{paint.bad('FAILED')}  {', '.join(failed)}" if failed else paint.good("ok")
    return [*lines, f"  root  {verdict.merkle_root}  {state}  {paint.dim('of ' + checked)}"]


def _place(failure: Failure, verdict: Verdict) -> str:
    """Where a failure is, and of a root what is known of the records it was made over."""
    here, sealed, told = len(verdict.records), verdict.sealed_count, ""
    if failure.reason in (ROOT, ROOT_SIGNATURE) and sealed is not None and sealed != here:
        told = f"; the root was signed for {plural(sealed, 'record')}, and here are {here}"
    if failure.index is None:
        return f"the root{told}"
    if failure.record_id is None:
        return f"record {failure.index}, which is missing{told}"
    name = f"record {failure.index} ({shown(failure.record_id)})"
    return f"{name}, the first that the root is not of{told}" if failure.reason == ROOT else name


def _conclude(file: str, verdict: Verdict, *, may_be_unsigned: bool) -> None:
    if verdict.failures:
        first = verdict.failures[0]
        raise BrokenProof(
            f"{file} does not hold: {first.reason} at {_place(first, verdict)}",
            hint="do not rely on it; ask for the transcript again",
            failures=len(verdict.failures),
        )
    count = plural(len(verdict.records), "record")
    if verdict.is_proven:
        tell(f"{file}: {count} of {shown(verdict.evidence_id)}, proven with {verdict.algorithm}")
    elif may_be_unsigned:
        tell(f"{file}: {count} of {shown(verdict.evidence_id)} hold together; signatures were not checked")
    else:
        raise BrokenProof(
            f"{file} holds together, but its {verdict.algorithm} signatures were not checked: there is no key",
            hint="give --keys (ml-dsa-65) or --tenant-key (hmac-sha256); --chain-only if that is enough",
        )
