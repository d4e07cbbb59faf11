package modulet.web;

import modulet.base.ModuleList;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** {@code GET /} lists all modules with their states. Everything under {@code /webbiz} is the module's own. */
@RestController
class ModulesController {
    @GetMapping(path = "/", produces = "text/plain; charset=utf-8")
    String modules() {
        return ModuleList.text() + "\n";
    }
}
