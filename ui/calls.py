"""Calls on their way into gradio's queue and out of it: an unfit one costs no other its answer, and each that fails is
told why."""

import os
from collections.abc import Sequence

import gradio as gr
from gradio import route_utils
from gradio.blocks import Block
from gradio.data_classes import FileData
from gradio.processing_utils import client_utils
from gradio.server_messages import ProcessCompletedMessage
from starlette.requests import Request

from ui.guard import Limits
from ui.uploads import NOT_UPLOADED, upload_path

ERROR = "error"
"""The one key of the second output of /predict where a picture has no answer."""

BAD_INPUTS = (
    "These inputs do not fit the call: GET /gradio_api/info lists them, and a picture is the path that "
    "POST /gradio_api/upload answered with."
)
TOO_MANY_FILES = f"Too many pictures: give {Limits.files} at once, or fewer."
BAD_ADDRESS = "The headers of this call (X-Forwarded-Host, X-Gradio-Server) do not name a host."
NOT_DONE = "That could not be done: something is wrong on the server. Try it once more."


def refuse_unfit_calls(page: gr.Blocks) -> None:
    """Keeps those calls of the API out of batches that gradio could not hand to their function: it would fail every
    call of the batch with them, or forget to answer any, in many lines of its log. To be called after `page.queue()`.

    Such a call becomes one of `refuse`, so it goes through the queue and fails as any other does; one whose headers
    would make that fail too is answered with HTTP 400.
    """

    def refuse(sentence):
        raise gr.Error(sentence, print_exception=False)

    with page:
        unseen = gr.Textbox(visible=False)
        refusal = gr.on([], refuse, unseen, None, preprocess=False, api_visibility="private")
    queue = page._queue
    push = queue.push

    async def push_fit(body, request, username):
        if not has_an_address(request, page.app.root_path):
            return False, BAD_ADDRESS, "error"
        function, sentence = page.fns.get(body.fn_index), None
        if function is not None and function.fn is refuse:  # asked for by its number, with a sentence of the caller's
            sentence = BAD_INPUTS
        elif function is not None and function.api_visibility == "public":
            sentence = unfit(function.inputs, body.data)
        if sentence is not None:
            body.fn_index, body.data = refusal["id"], [sentence]
        return await push(body=body, request=request, username=username)

    queue.push = push_fit


def has_an_address(request: Request, root_path: str) -> bool:
    """Whether gradio can tell the page's own address from the request, as it does before it runs a batch."""
    try:
        route_utils.get_root_url(request, route_utils.get_api_call_path(request), root_path)
    except Exception:
        return False
    return True


def unfit(inputs: Sequence[Block], data: list) -> str | None:
    """Why gradio could not hand `data` to a function of these `inputs`; None where it can."""
    if len(data) < len(inputs):
        return BAD_INPUTS
    files: list[dict] = []
    try:
        client_utils.traverse(data, files.append, client_utils.is_file_obj_with_meta)
        if len(files) > Limits.files:
            return TOO_MANY_FILES
        for file in files:
            check_path(upload_path(FileData(**file).model_dump()))
        for block, value in zip(inputs, data, strict=False):
            model = getattr(block, "data_model", None)
            if model is not None and value is not None:
                model.model_validate(value, context={"validate_meta": True})
    except gr.Error as error:
        return str(error.message)
    except (ValueError, TypeError, AttributeError):  # ValueError: pydantic's too; AttributeError: "meta" is no object
        return BAD_INPUTS
    return None


def check_path(path: str) -> None:
    """Raises gr.Error where gradio, which takes ".." away before it follows links, would find no upload at the path of
    one, or a file with a dot in front below the working directory, of which it lets none in."""
    hidden = os.path.basename(path).startswith(".") and gr.utils.is_in_or_equal(path, os.getcwd())
    if os.path.normpath(path) != path or hidden:
        raise gr.Error(NOT_UPLOADED, print_exception=False)


def explain_failures(page: gr.Blocks) -> None:
    """A sentence for every call that fails, on its way to the caller. To be called after `page.queue()`.

    Gradio ends a call without one where the inputs do not fit, before any function of ours sees them. And it knows only
    batches that succeed or fail as a whole: a finished call whose output is an ERROR is turned into a failed one.
    """
    queue = page._queue
    send = queue.send_message

    def send_message(event, message):
        if isinstance(message, ProcessCompletedMessage):
            if not message.success:
                usual = BAD_INPUTS if event.fn.api_visibility == "public" else NOT_DONE
                message.output["error"] = message.output.get("error") or usual
            elif event.fn.api_name == "predict":
                for value in message.output.get("data", ()):
                    if isinstance(value, dict) and value.keys() == {ERROR}:
                        message = ProcessCompletedMessage(output={"error": value[ERROR]}, title="Error", success=False)
        send(event, message)

    queue.send_message = send_message
