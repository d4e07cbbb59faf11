package modulet.modules.web.plain;

import modulet.modules.web.VersionController;
import org.springframework.boot.Banner;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.annotation.Import;

/** A web module: an ordinary Spring Boot web application, whose context is one of the base's Tomcat. */
@SpringBootApplication(proxyBeanMethods = false)
@Import(VersionController.class)
public class WebModuleApplication {
    public static void main(String[] args) {
        new SpringApplicationBuilder(WebModuleApplication.class).bannerMode(Banner.Mode.OFF).run(args);
    }
}
