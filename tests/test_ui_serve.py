import inspect

import gradio as gr

from ui.serve import remember_signatures


def test_the_settings_of_components_are_worked_out_once():
    with gr.Blocks() as page:
        gr.HTML("a")
        gr.Dropdown(["b"])

    for kind in (gr.HTML, gr.Dropdown):
        vars(kind.__init__).pop("__signature__", None)  # of another page of this process
        assert inspect.signature(kind.__init__) is not inspect.signature(kind.__init__)
    before = {type(block): inspect.signature(type(block).__init__) for block in page.blocks.values()}
    configs = [block.get_config() for block in page.blocks.values()]
    remember_signatures(page)
    for kind, signature in before.items():
        assert inspect.signature(kind.__init__) == signature
        assert inspect.signature(kind.__init__) is inspect.signature(kind.__init__)
    assert [block.get_config() for block in page.blocks.values()] == configs
